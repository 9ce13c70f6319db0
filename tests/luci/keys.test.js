'use strict';

const assert = require('node:assert/strict');
const { execFileSync } = require('node:child_process');
const fs = require('node:fs');
const os = require('node:os');
const path = require('node:path');
const { test } = require('node:test');

const { CONFIG, STATUS, requireModule, useBrowser, withPage } = require('./browser.js');
const { ACL_FILE, defaultConfig, readJson } = require('../fakes/luci/router.js');

useBrowser();

const LINE = '#pkd-key-line';
const closed = (tab) => tab.wait(() => !document.querySelector('body.modal-overlay-active'));

// What was run on the router, except for checks, which change nothing.
const commands = (router) => router.callsOf('cgi-io', 'exec').map((call) => call.parameters.command)
  .filter((command) => !command.startsWith('/usr/sbin/pkd check --json '));

async function makeKey(tab, user = 'me') {
  await tab.click(`tr[data-sid="${user}"] [data-name="_make"] button`);
  await tab.page.waitForSelector(LINE);
  return tab.page.$eval(LINE, (node) => node.textContent);
}

async function writeKey(tab) {
  await tab.click('#pkd-key-write');
}

const keyOf = (line) => line.match(/0x[0-9a-f]{64}(?= > )/)[0];

function withTag(tag, changes = {}) {
  const config = defaultConfig();
  Object.assign(config.pkd[2], { tag, ...changes });
  return config;
}

test('a key is 64 digits, written once with mode 0600 where the user’s key belongs', () => withPage(CONFIG, {}, async (tab, router) => {
  const line = await makeKey(tab);
  assert.match(line, /^\(umask 077; echo 0x[0-9a-f]{64} > me\.key\) && knock --format 2 --key-file me\.key --tag PKD0 127\.0\.0\.1$/);
  assert.deepEqual(router.written, [], 'nothing is written before “Write key”');
  await tab.shot('key');
  await writeKey(tab);
  await closed(tab);
  assert.deepEqual(router.written, [{ path: '/etc/pkd/keys/me.key', data: `${keyOf(line)}\n`, mode: 0o600 }]);
  await tab.waitForText('.notification', 'The key of “me” was written');
  assert.equal(router.staged.pkd[2].key_file, '/etc/pkd/keys/me.key');
  assert.equal(router.staged.pkd[2].key, undefined);
  assert.deepEqual(commands(router), ['/etc/init.d/pkd reload']);
}));

test('each key is different', () => withPage(CONFIG, {}, async (tab, router) => {
  const keys = new Set();
  for (let round = 0; round < 4; round += 1) {
    keys.add(keyOf(await makeKey(tab)));
    await writeKey(tab);
    await closed(tab);
  }
  assert.equal(keys.size, 4);
  assert.deepEqual(router.written.map((file) => file.data.trim()), [...keys]);
}));

test('no answer of the router contains a key, and no call reads one', () => withPage(CONFIG, {}, async (tab, router) => {
  const key = keyOf(await makeKey(tab));
  await writeKey(tab);
  await closed(tab);
  await tab.click('#handleSaveApply');
  await tab.wait(() => !document.querySelector('.spinning'));
  for (const page of [CONFIG, STATUS]) {
    await tab.open(page);
    assert.ok(!(await tab.page.content()).includes(key.substring(2)));
  }
  assert.ok(router.answers.length > 8);
  router.answers.forEach((answer) => assert.ok(!answer.includes(key.substring(2))));
  const files = router.calls.filter((call) => call.object === 'file');
  assert.deepEqual(files.map((call) => call.method), ['write']);
  const elsewhere = router.calls.filter((call) => call.object !== 'file');
  assert.ok(!JSON.stringify(elsewhere).includes(key.substring(2)), 'the browser sends it nowhere else');
}));

test('a closed dialog no longer shows its key', () => withPage(CONFIG, {}, async (tab) => {
  const key = keyOf(await makeKey(tab));
  await tab.click('#pkd-key-cancel');
  await closed(tab);
  assert.ok(!(await tab.page.content()).includes(key));
  assert.notEqual(keyOf(await makeKey(tab)), key);
}));

test('Cancel writes nothing and changes nothing', () => withPage(CONFIG, {}, async (tab, router) => {
  const before = JSON.stringify(router.staged);
  await makeKey(tab);
  await tab.click('#pkd-key-cancel');
  await closed(tab);
  await tab.click('#handleReset');
  await tab.wait(() => !document.querySelector('.spinning'));
  assert.deepEqual(router.written, []);
  assert.equal(JSON.stringify(router.staged), before);
  assert.deepEqual(commands(router), []);
}));

// What a camera would read from the screen.
async function scan(tab) {
  const code = await tab.page.$('#pkd-key-qr svg');
  const [picture, modules] = await code.evaluate((node) =>
    [node, node.querySelector('path')].map((one) => one.getBoundingClientRect().width));
  // 4 empty modules on either side of at least 49.
  assert.ok(modules < picture && modules > picture * 0.8, `${modules} of ${picture} pixels`);
  await code.evaluate((node) => {
    const big = node.cloneNode(true);
    big.setAttribute('style', 'position:fixed;inset:0;z-index:9999;width:860px;height:860px;background:#fff');
    big.id = 'big';
    document.body.appendChild(big);
  });
  const { data, width, height } = requireModule('pngjs').PNG.sync.read(
    Buffer.from(await (await tab.page.$('#big')).screenshot()));
  await tab.page.$eval('#big', (node) => node.remove());
  const found = requireModule('jsqr')(new Uint8ClampedArray(data), width, height);
  assert.ok(found, 'no QR code was found');
  return Buffer.from(found.binaryData).toString('utf8');
}

test('the QR code encodes exactly the command, and changes with it', () => {
  const config = withTag("ä'$");
  config.pkd[0].port = '62201';
  return withPage(CONFIG, { config }, async (tab) => {
    const line = await makeKey(tab);
    assert.ok(line.endsWith(` --tag 'ä'\\''$' --port 62201 127.0.0.1`), line);
    assert.equal(await scan(tab), line);
    await tab.fill('#pkd-key-host', 'router.example.net');
    const other = await tab.page.$eval(LINE, (node) => node.textContent);
    assert.equal(other, line.replace('127.0.0.1', 'router.example.net'));
    assert.equal(await scan(tab), other);
  });
});

// Runs the command in a shell where `knock` prints its arguments.
function inShell(line) {
  const folder = fs.mkdtempSync(path.join(os.tmpdir(), 'pkd-luci-'));
  try {
    fs.writeFileSync(path.join(folder, 'knock'), '#!/bin/sh\nfor word; do printf "%s\\n" "$word"; done\n', { mode: 0o755 });
    const output = execFileSync('/bin/sh', ['-c', line], {
      cwd: folder, env: { PATH: `${folder}:${process.env.PATH}`, HOME: folder }, encoding: 'utf8',
    });
    const file = path.join(folder, 'me.key');
    return {
      words: output.trimEnd().split('\n'),
      mode: fs.statSync(file).mode & 0o777,
      key: fs.readFileSync(file, 'utf8'),
      files: fs.readdirSync(folder).sort(),
    };
  } finally {
    fs.rmSync(folder, { recursive: true });
  }
}

for (const tag of ['PKD0', '0x00ff', "a'b", 'a b', '$HOM', '`id`', '"', '\\n', ';:>x', '*', '~', '#a', '&&', '!1']) {
  test(`the command works in a shell with the tag ${tag}`, () => withPage(CONFIG, { config: withTag(tag) }, async (tab) => {
    const line = await makeKey(tab);
    const done = inShell(line);
    assert.deepEqual(done.words, ['--format', '2', '--key-file', 'me.key', '--tag', tag, '127.0.0.1']);
    assert.equal(done.key, `${keyOf(line)}\n`);
    assert.equal(done.mode, 0o600);
    assert.deepEqual(done.files, ['knock', 'me.key']);
  }));
}

test('a tag that begins with a hyphen is not parsed as an option', () => withPage(CONFIG, { config: withTag("-v'") }, async (tab) => {
  assert.deepEqual(inShell(await makeKey(tab)).words, ['--format', '2', '--key-file', 'me.key', "--tag=-v'", '127.0.0.1']);
}));

test('the command for a classic user names no format', () => {
  const config = withTag('PKD0');
  config.pkd.find((section) => section['.type'] === 'user').format = 'classic';
  return withPage(CONFIG, { config }, async (tab) => {
    assert.deepEqual(inShell(await makeKey(tab)).words, ['--key-file', 'me.key', '--tag', 'PKD0', '127.0.0.1']);
  });
});

test('only a name or an address is accepted as the router', () => withPage(CONFIG, {}, async (tab, router) => {
  await makeKey(tab);
  for (const host of ['', '-v', 'a b', 'a;b', '$(id)', "a'b", 'ä.example']) {
    await tab.fill('#pkd-key-host', host);
    await tab.waitForText('#pkd-key-error', `Invalid host “${host}”: expected the router’s name or address`);
    assert.equal(await tab.page.$eval('#pkd-key-write', (node) => node.disabled), true);
    assert.equal(await tab.text(LINE), '');
    assert.equal(await tab.count('#pkd-key-qr svg'), 0);
  }
  for (const host of ['2001:db8::1', 'fe80::1%eth0', 'gw.example.net']) {
    await tab.fill('#pkd-key-host', host);
    assert.ok((await tab.text(LINE)).endsWith(` ${host}`));
    assert.equal(await tab.page.$eval('#pkd-key-write', (node) => node.disabled), false);
  }
  assert.deepEqual(router.written, []);
}));

test('the page warns of a key in the configuration, and a new key replaces it', () => {
  const config = withTag('PKD0', { key: 'hunter2', key_file: '/etc/pkd.key' });
  return withPage(CONFIG, { config }, async (tab, router) => {
    assert.match(await tab.text('#pkd-legacy'), /The key of “me” is stored in the configuration/);
    await makeKey(tab);
    await writeKey(tab);
    await closed(tab);
    assert.deepEqual(router.callsOf('uci', 'delete').map((call) => call.parameters), [{ config: 'pkd', section: 'me', options: ['key'] }]);
    assert.equal(router.staged.pkd[2].key_file, '/etc/pkd/keys/me.key');
    await tab.wait(() => getComputedStyle(document.querySelector('#pkd-legacy')).display === 'none');
  });
});

test('without a key in the configuration there is no warning', () => withPage(CONFIG, {}, async (tab) => {
  assert.equal(await tab.page.$eval('#pkd-legacy', (node) => getComputedStyle(node).display), 'none');
}));

test('a new user can get a key once saved', () => withPage(CONFIG, {}, async (tab, router) => {
  await tab.fill('#cbi-pkd-user .cbi-section-create-name', 'ann');
  await tab.click('#cbi-pkd-user .cbi-button-add');
  await tab.fill('[id="widget.cbid.pkd.ann.tag"]', 'ANN1');
  await tab.click('[id="cbid.pkd.ann.service"] li[data-value="ssh"]');
  await tab.click('#modal_overlay .cbi-button-positive');
  await closed(tab);
  const line = await makeKey(tab, 'ann');
  assert.ok(line.includes('--key-file ann.key --tag ANN1 '));
  await writeKey(tab);
  await closed(tab);
  assert.deepEqual(router.written.map((file) => file.path), ['/etc/pkd/keys/ann.key']);
}));

function without(change) {
  const acl = readJson(ACL_FILE);
  change(acl['luci-app-pkd']);
  return acl;
}

for (const [what, acl] of [
  ['to write key files', without((group) => { delete group.write.file['/etc/pkd/keys/*.key']; })],
  ['to call file write', without((group) => { delete group.write.ubus; })],
]) {
  test(`without the right ${what}, the dialog says so and nothing is changed`, () => withPage(CONFIG, { acl }, async (tab, router) => {
    const before = JSON.stringify(router.staged);
    await makeKey(tab);
    await writeKey(tab);
    await tab.waitForText('#pkd-key-error', 'Cannot write the key: permission denied');
    assert.deepEqual(router.written, []);
    assert.equal(JSON.stringify(router.staged), before);
  }));
}

test('a full disk is reported', () => withPage(CONFIG, {}, async (tab, router) => {
  router.fileError = 9;
  await makeKey(tab);
  await writeKey(tab);
  await tab.waitForText('#pkd-key-error', 'Cannot write the key: Unspecified error.');
}));

test('without the right to reload, the page says what to do', () => {
  const acl = without((group) => { delete group.write.file['/etc/init.d/pkd reload']; });
  return withPage(CONFIG, { acl, faults: true }, async (tab, router) => {
    await makeKey(tab);
    await writeKey(tab);
    await tab.waitForText('.notification', 'pkd could not be reloaded: permission denied');
    assert.equal(router.written.length, 1);
  });
});

test('without a QR library only the command is shown', () => withPage(CONFIG, { without: ['uqr'] }, async (tab) => {
  assert.match(await makeKey(tab), /knock/);
  assert.equal(await tab.count('#pkd-key-qr svg'), 0);
}));

test('no key is made for a user without a tag', () => withPage(CONFIG, { config: withTag('') }, async (tab) => {
  await tab.click('[data-name="_make"] button');
  await tab.waitForText('.notification', 'Cannot make a key for “me”');
  assert.equal(await tab.count(LINE), 0);
}));
