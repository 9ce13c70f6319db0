// A fake router, as LuCI's pages see it: the web server, rpcd's session, uci and file objects, and cgi-io's exec.
// The pages, the menu, the access list and pkdd are real; everything else is fake.
'use strict';

const { execFileSync } = require('node:child_process');
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
      grants: [{ service: 'ssh', address: '192.0.2.7', seconds_left: 23 }],
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
    this.written = [];
    this.calls = [];
    this.answers = [];
    // The programs' answers by command line: { status, reason, body }.
    this.programs = {
      '/usr/sbin/pkd status --json': () => ({ body: JSON.stringify(this.status) }),
      '/usr/sbin/pkd check --json *': (words) => ({ body: this.check(words[3]) }),
      '/etc/init.d/pkd reload': () => ({ body: '' }),
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
  check(text) {
    const pkdd = process.env.PKD_LUCI_PKDD;
    if (!pkdd) throw new Error('PKD_LUCI_PKDD is not set: set it to a built pkdd, or use `cargo xtask luci`');
    const zones = this.committed.firewall.filter((section) => section['.type'] === 'zone')
      .map((zone) => `config zone\n\toption name '${zone.name}'\n`);
    const input = `${text}package firewall\n${zones.join('')}`;
    return execFileSync(pkdd, ['openwrt', 'check', '--json'], { input, encoding: 'utf8' });
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
      if (options) options.forEach((option) => { delete sections[index][option]; });
      else sections.splice(index, 1);
      return [OK];
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

  file_write({ path: name, data, mode }) {
    const real = path.posix.normalize(name);
    if (!this.allows('file', real, 'write')) return [PERMISSION_DENIED];
    if (this.fileError) return [this.fileError];
    this.written.push({ path: real, data, mode });
    return [OK];
  }

  // cgi-io checks the right to exec, then to the whole command line or to the program alone.
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
    const name = Object.keys(this.programs).find((one) => one === line || one.endsWith(' *') && line.startsWith(one.slice(0, -1)));
    const run = name && this.programs[name];
    if (!run) return { status: 404, reason: 'Executable not found' };
    if (!allowed) return { status: 403, reason: 'Access to command denied by ACL' };
    return run(words);
  }
}

module.exports = { ACL_FILE, APP, MENU_FILE, Router, defaultConfig, defaultStatus, readJson };
