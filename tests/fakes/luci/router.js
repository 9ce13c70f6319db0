// A fake router, as LuCI's pages see it: the web server, rpcd's session, uci and file objects, cgi-io's exec, and what the
// command pkd does to users. The pages, the menu, the access list and pkdd are real; everything else is fake.
'use strict';

const { execFileSync } = require('node:child_process');
const { randomBytes } = require('node:crypto');
const fs = require('node:fs');
const http = require('node:http');
const path = require('node:path');

const HERE = __dirname;
// Set PKD_LUCI_APP to test a modified copy of the package.
const APP = process.env.PKD_LUCI_APP ||
  path.join(HERE, '../../../openwrt/feed/luci/luci-app-pkd');
const ACL_FILE = path.join(APP, 'root/usr/share/rpcd/acl.d/luci-app-pkd.json');
const MENU_FILE = path.join(APP, 'root/usr/share/luci/menu.d/luci-app-pkd.json');

const OK = 0;
const NOT_FOUND = 4;
const PERMISSION_DENIED = 6;
const NO_DATA = 5;

// The rights that every LuCI login has without this package.
const LUCI_GROUP = {
  read: { ubus: { session: ['access'], uci: ['changes', 'get'] } },
  write: { ubus: { uci: ['add', 'apply', 'confirm', 'delete', 'order', 'rename', 'set'] } },
};
// Further rights of the administrator, as far as the pages use them.
const ADMIN_GROUP = { read: { uci: ['network', 'wireless', 'luci'] } };

function readJson(file) {
  return JSON.parse(fs.readFileSync(file, 'utf8'));
}

// fnmatch without FNM_PATHNAME, as rpcd calls it: * also matches slashes.
function matches(pattern, text) {
  const expression = pattern
    .replace(/[.+^${}()|\\]/g, '\\$&')
    .replace(/\*/g, '.*')
    .replace(/\?/g, '.');
  return new RegExp(`^${expression}$`, 's').test(text);
}

// The single rights of a group in an access list. If a scope is a plain list ("uci", "cgi-io"), the function is the
// name of the part, read or write.
function rightsOf(group, source, parts) {
  const rights = [];
  for (const part of parts) {
    for (const [scope, objects] of Object.entries(group[part] || {})) {
      const pairs = Array.isArray(objects)
        ? objects.map((object) => [object, [part]])
        : Object.entries(objects);
      for (const [object, functions] of pairs) {
        for (const name of functions) {
          rights.push({ source, part, scope, object, name, used: 0 });
        }
      }
    }
  }
  return rights;
}

function refused(sentence) {
  return { code: 1, stderr: `pkd: ${sentence}\n` };
}

// As `uci export` prints a configuration.
function exported(sections) {
  const lines = sections.map((section) => {
    const options = Object.entries(section).filter(([name]) => !name.startsWith('.'))
      .flatMap(([name, value]) => [value].flat().map((one) => `\tlist ${name} '${one.replace(/'/g, "'\\''")}'\n`));
    return `config ${section['.type']} '${section['.name']}'\n${options.join('')}`;
  });
  return `package pkd\n${lines.join('')}`;
}

function defaultConfig() {
  return {
    pkd: [
      {
        '.type': 'gate', '.name': 'gate',
        enabled: '0', mode: 'nft', port: 'any', zone: 'wan', mark: '0x00ff0000', clock: 'ntp',
      },
      { '.type': 'service', '.name': 'ssh', protocol: 'tcp', port: '22', seconds: '30' },
      { '.type': 'user', '.name': 'me', tag: 'PKD0', window: '10', service: ['ssh'] },
    ],
    firewall: [
      { '.type': 'zone', '.name': 'cfg02', name: 'lan', network: ['lan'] },
      { '.type': 'zone', '.name': 'cfg03', name: 'wan', network: ['wan', 'wan6'] },
    ],
    network: [
      { '.type': 'interface', '.name': 'lan', proto: 'static' },
      { '.type': 'interface', '.name': 'wan', proto: 'dhcp' },
    ],
  };
}

function defaultStatus() {
  return {
    version: '0.1.0', enabled: true, mode: 'nft', state: 'open', reason: '',
    gate: {
      version: '0.1.0', now: 1800000000, overruns: 0, trouble: '',
      counters: { accept: 1, close: 0, length: 0, tag: 2, window: 0, replay: 0, waiting: 4, filter: 0, digest: 3, request: 0 },
      limited: 5,
      users: [{
        name: 'me', tag: 'SSHK', format: '2', state: 'active', window: 10, knocks: 3, capacity: 256,
        floor: 1799999990, newest: 1800000000, wait: 0,
      }],
      services: [{ name: 'ssh', protocol: 'tcp', port: 22, seconds: 30 }],
      grants: [{ service: 'ssh', address: '192.0.2.7', seconds_left: 23, user: 'me' }],
    },
  };
}

class Router {
  // acl: replaces the package's access list. parts: which parts of the group the login has. admin: whether the login
  // also has the administrator's rights. without: modules that this LuCI lacks.
  constructor(options = {}) {
    this.group = (options.acl || readJson(ACL_FILE))['luci-app-pkd'];
    this.rights = [
      ...rightsOf(this.group, 'app', options.parts || ['read', 'write']),
      ...rightsOf(LUCI_GROUP, 'luci', ['read', 'write']),
      ...(options.admin === false ? [] : rightsOf(ADMIN_GROUP, 'luci', ['read'])),
    ];
    this.without = options.without || [];
    this.committed = options.config || defaultConfig();
    this.staged = structuredClone(this.committed);
    this.changes = {};
    this.calls = [];
    this.answers = [];
    // The keys that pkd has made, by user.
    this.keys = {};
    this.events = ['Sat Nov 28 12:00:00 2026 me from 192.0.2.9 opened ssh for 30 s', 'Sat Nov 28 12:00:05 2026 me from 192.0.2.7 opened ssh for 30 s'];
    this.warnings = [];
    // The programs' answers by command line: { body, code, stderr }, and for cgi-io { status, reason }.
    this.programs = {
      '/usr/sbin/pkd status --json': () => ({ body: JSON.stringify(this.status) }),
      '/usr/sbin/pkd check --json *': (words) => ({ body: this.pkdd(['check', '--json'], words[3]) }),
      '/usr/sbin/pkd check': () => ({ body: this.warnings.map((line) => `pkd: warning: ${line}\n`).join('') }),
      '/usr/sbin/pkd events': () => ({ body: this.events.map((line) => `${line}\n`).join('') }),
      '/usr/sbin/pkd close *': (words) => this.closeAddress(words[2]),
      '/usr/sbin/pkd user list --json': () => ({ body: this.pkdd(['users', '--json'], exported(this.committed.pkd)) }),
      '/usr/sbin/pkd user add *': (words) => this.addUser(words.slice(3)),
      '/usr/sbin/pkd user rotate *': (words) => this.rotateUser(words.slice(3)),
      '/usr/sbin/pkd user revoke *': (words) => this.revokeUser(words[3]),
      ...options.programs,
    };
    this.status = options.status || defaultStatus();
    this.modules = options.modules;
    this.session = '0123456789abcdef0123456789abcdef';
    this.server = http.createServer((request, response) => {
      this.serve(request, response).catch((error) => {
        response.writeHead(500);
        response.end(String(error.stack));
      });
    });
  }

  // The real pkdd, as the service's script calls it.
  pkdd(words, text) {
    const pkdd = process.env.PKD_LUCI_PKDD;
    if (!pkdd) throw new Error('PKD_LUCI_PKDD is not set: set it to a built pkdd, or use `cargo xtask luci`');
    const zones = this.committed.firewall.filter((section) => section['.type'] === 'zone')
      .map((zone) => `config zone\n\toption name '${zone.name}'\n`);
    const input = `${text}package firewall\n${zones.join('')}`;
    return execFileSync(pkdd, ['openwrt', ...words], { input, encoding: 'utf8' });
  }

  // Options that may be given more than once.
  static options(words) {
    const options = {};
    for (let place = 0; place < words.length; place += 2) (options[words[place]] = options[words[place]] || []).push(words[place + 1]);
    return options;
  }

  addUser([name, ...words]) {
    const options = Router.options(words);
    if (!/^[A-Za-z0-9_]+$/.test(name)) return refused(`invalid name ${name}: expected letters, digits and _`);
    if (this.user(name)) return refused(`there is a section ${name} in /etc/config/pkd already`);
    const services = options['--service'] || this.committed.pkd.filter((one) => one['.type'] === 'service').map((one) => one['.name']);
    const user = { '.type': 'user', '.name': name, tag: name.toUpperCase().substring(0, 4), service: services };
    if (options['--expires']) [user.expires] = options['--expires'];
    this.change((pkd) => pkd.push(user));
    return this.uri(user, options['--address']);
  }

  rotateUser([name, ...words]) {
    const options = Router.options(words);
    const user = this.user(name);
    if (this.user(`${name}_old`)) return refused(`the key of "${name}" was replaced already`);
    this.change((pkd) => pkd.push({ ...user, '.name': `${name}_old`, replaced_by: name, expires: (options['--until'] || ['2026-12-28'])[0] }));
    return this.uri(user, options['--address']);
  }

  revokeUser(name) {
    if (!this.user(name)) return refused(`there is no user ${name}`);
    this.committed.pkd = this.committed.pkd.filter((one) => ![name, `${name}_old`].includes(one['.name']));
    this.change(() => {});
    return { body: `revoked ${name}\n` };
  }

  closeAddress(address) {
    this.status.gate.grants = this.status.gate.grants.filter((grant) => grant.address !== address);
    return { body: `all services are closed to ${address}, until it knocks\n` };
  }

  user(name) {
    return this.committed.pkd.find((one) => one['.name'] === name);
  }

  change(change) {
    change(this.committed.pkd);
    this.staged = structuredClone(this.committed);
  }

  uri(user, addresses) {
    const key = `0x${randomBytes(32).toString('hex')}`;
    this.keys[user['.name']] = key;
    const further = addresses.slice(1).map((one) => `&address=${one}`).join('');
    const profile = addresses[0].split('.')[0];
    return { body: `knock://${user.tag}@${addresses[0]}/${profile}?key=${key}${further}&services=ssh:22&format=2\n` };
  }

  listen() {
    return new Promise((resolve) => {
      this.server.listen(0, '127.0.0.1', () => {
        this.url = `http://127.0.0.1:${this.server.address().port}`;
        resolve(this);
      });
    });
  }

  close() {
    this.server.closeAllConnections();
    return new Promise((resolve) => { this.server.close(resolve); });
  }

  // The address of a menu entry's page, as LuCI's dispatcher resolves it.
  page(menuPath) {
    const entry = readJson(MENU_FILE)[menuPath];
    if (!entry || entry.action.type !== 'view') throw new Error(`unknown view in the menu: ${menuPath}`);
    return `${this.url}/cgi-bin/luci/${menuPath}`;
  }

  // rpcd's session.access. Every matching right counts as used, unless the page only queried it.
  allows(scope, object, name, { asked = false } = {}) {
    const matching = this.rights.filter((right) =>
      right.scope === scope && matches(right.object, object) && matches(right.name, name));
    if (!asked) matching.forEach((right) => { right.used += 1; });
    return matching.length > 0;
  }

  unusedRights() {
    return this.rights
      .filter((right) => right.source === 'app' && right.used === 0)
      .map((right) => `${right.part}: ${right.scope} ${right.object} ${right.name}`);
  }

  callsOf(object, method) {
    return this.calls.filter((call) => call.object === object && call.method === method);
  }

  async serve(request, response) {
    const url = new URL(request.url, this.url);
    const send = (status, type, body, reason) => {
      response.writeHead(status, reason || http.STATUS_CODES[status], {
        'Content-Type': type, 'Cache-Control': 'no-store',
      });
      response.end(body);
    };
    const body = await new Promise((resolve) => {
      const chunks = [];
      request.on('data', (chunk) => chunks.push(chunk));
      request.on('end', () => resolve(Buffer.concat(chunks).toString('utf8')));
    });

    if (request.method === 'POST' && url.pathname === '/ubus') {
      const messages = JSON.parse(body);
      const answer = JSON.stringify(Array.isArray(messages)
        ? messages.map((message) => this.ubus(message))
        : this.ubus(messages));
      this.answers.push(answer);
      return send(200, 'application/json', answer);
    }
    if (request.method === 'POST' && url.pathname === '/cgi-bin/cgi-exec') {
      const result = this.exec(new URLSearchParams(body));
      this.answers.push(result.body || '');
      return send(result.status || 200, 'text/plain', result.body || '', result.reason);
    }
    if (url.pathname.startsWith('/cgi-bin/luci/')) {
      const entry = readJson(MENU_FILE)[url.pathname.substring('/cgi-bin/luci/'.length)];
      if (entry && entry.action.type === 'view') {
        return send(200, 'text/html; charset=utf-8', this.frame(entry.action.path));
      }
    }
    const file = this.file(url.pathname);
    if (file) {
      const type = { '.css': 'text/css', '.js': 'text/javascript', '.mjs': 'text/javascript' };
      return send(200, type[path.extname(file)] || 'text/plain', fs.readFileSync(file));
    }
    return send(404, 'text/plain', 'not found');
  }

  file(name) {
    const parts = name.match(/^\/(luci-static\/resources(?:\/view)?\/pkd|fakes)\/([a-z]+\.(?:js|css))$/);
    if (parts) {
      const folder = parts[1] === 'fakes' ? HERE : path.join(APP, 'htdocs', parts[1]);
      const found = path.join(folder, parts[2]);
      return fs.existsSync(found) ? found : null;
    }
    return name === '/fakes/npm/uqr.mjs' && this.modules
      ? path.join(this.modules, 'node_modules/uqr/dist/index.mjs')
      : null;
  }

  frame(view) {
    const environment = { sessionid: this.session, view, without: this.without };
    return `<!doctype html>
<html lang="en">
<head><meta charset="utf-8"><title>Fake LuCI</title>
<link rel="icon" href="data:,"><link rel="stylesheet" href="/fakes/style.css"></head>
<body><div id="maincontent"><div id="view">Loading view…</div></div>
<script>window.environment = ${JSON.stringify(environment)};</script>
<script src="/fakes/luci.js"></script></body>
</html>`;
  }

  ubus(message) {
    const [session, object, method, parameters] = message.params;
    const reply = (content) => ({ jsonrpc: '2.0', id: message.id, ...content });
    if (session !== this.session || !this.allows('ubus', object, method)) {
      this.calls.push({ object, method, parameters, code: -32002 });
      return reply({ error: { code: -32002, message: 'Access denied' } });
    }
    const handler = this[`${object}_${method}`];
    const result = handler ? handler.call(this, parameters) : [3];
    this.calls.push({ object, method, parameters, code: result[0] });
    return reply({ result });
  }

  session_access({ scope, object, function: name }) {
    return [OK, { access: this.allows(scope, object, name, { asked: true }) }];
  }

  uci_get({ config }) {
    if (!this.allows('uci', config, 'read')) return [PERMISSION_DENIED];
    if (!this.staged[config]) return [NOT_FOUND];
    const values = {};
    this.staged[config].forEach((section, index) => {
      values[section['.name']] = { '.anonymous': false, '.index': index, ...section };
    });
    return [OK, { values }];
  }

  // Changes the session's copy of a configuration; apply commits it.
  stage(config, change) {
    if (!this.allows('uci', config, 'write')) return [PERMISSION_DENIED];
    if (!this.staged[config]) return [NOT_FOUND];
    const result = change(this.staged[config]);
    if (result[0] === OK) (this.changes[config] = this.changes[config] || []).push(1);
    return result;
  }

  uci_add({ config, type, name, values }) {
    return this.stage(config, (sections) => {
      const section = name || `cfg${sections.length}`;
      if (sections.some((one) => one['.name'] === section)) return [2];
      sections.push({ '.type': type, '.name': section, ...values });
      return [OK, { section }];
    });
  }

  uci_set({ config, section, values }) {
    return this.stage(config, (sections) => {
      const found = sections.find((one) => one['.name'] === section);
      if (!found) return [NOT_FOUND];
      Object.assign(found, values);
      return [OK];
    });
  }

  uci_delete({ config, section, options }) {
    return this.stage(config, (sections) => {
      const index = sections.findIndex((one) => one['.name'] === section);
      if (index < 0) return [NOT_FOUND];
      if (!options) {
        sections.splice(index, 1);
        return [OK];
      }
      const found = options.filter((option) => option in sections[index]);
      found.forEach((option) => { delete sections[index][option]; });
      return found.length ? [OK] : [NOT_FOUND];
    });
  }

  uci_changes() {
    return [OK, { changes: this.changes }];
  }

  uci_apply() {
    if (!Object.keys(this.changes).length) return [NO_DATA];
    this.committed = structuredClone(this.staged);
    this.changes = {};
    return [OK];
  }

  uci_confirm() {
    return [OK];
  }

  // rpcd looks for the program first, then for a right to it alone, then for one to the whole command line.
  file_exec({ command, params }) {
    const words = [command, ...(params || [])];
    const line = words.join(' ');
    const run = this.program(line);
    if (!run) return [NOT_FOUND];
    // No longer line fits in rpcd's buffer.
    const allowed = this.allows('file', command, 'exec') || line.length < 1024 && this.allows('file', line, 'exec');
    if (!allowed) return [PERMISSION_DENIED];
    const { body = '', code = 0, stderr = '' } = run(words);
    return [OK, { code, ...(body && { stdout: body }), ...(stderr && { stderr }) }];
  }

  program(line) {
    const name = Object.keys(this.programs).find((one) => one === line || one.endsWith(' *') && line.startsWith(one.slice(0, -1)));
    return name && this.programs[name];
  }

  // cgi-io checks the right to exec, then to the whole command line or to the program alone. What it answers has neither the
  // exit code nor standard error.
  exec(form) {
    const command = form.get('command') || '';
    const program = command.split(' ')[0];
    this.calls.push({ object: 'cgi-io', method: 'exec', parameters: { command } });
    if (form.get('sessionid') !== this.session || !this.allows('cgi-io', 'exec', 'read')) {
      return { status: 403, reason: 'Exec permission denied' };
    }
    // A space or a line break within an argument has a backslash before it.
    const words = [...command.matchAll(/(?:\\[^]|[^\s\\])+/g)].map((word) => word[0].replace(/\\([^])/g, '$1'));
    const line = words.join(' ');
    const allowed = this.allows('file', line, 'exec') || this.allows('file', program, 'exec');
    const run = this.program(line);
    if (!run) return { status: 404, reason: 'Executable not found' };
    if (!allowed) return { status: 403, reason: 'Access to command denied by ACL' };
    return run(words);
  }
}

module.exports = { ACL_FILE, APP, MENU_FILE, Router, defaultConfig, defaultStatus, readJson };
