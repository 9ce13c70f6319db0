// Users on the status page: let in, shown once, given new keys, shut out.
'use strict';

const assert = require('node:assert/strict');
const { test } = require('node:test');

const { CONFIG, STATUS, requireModule, useBrowser, withPage } = require('./browser.js');
const { ACL_FILE, defaultConfig, readJson } = require('../fakes/luci/router.js');

useBrowser();

const LINE = '#pkd-line';
const PROBLEM = '#pkd-problem';
const closed = (tab) => tab.wait(() => !document.querySelector('body.modal-overlay-active'));
const ADD = '#pkd-status .cbi-button-add';
const button = (name, kind) => `#pkd-users tr[data-name="${name}"] .cbi-button-${kind}`;

// What was run on the router to change something.
const commands = (router) => router.callsOf('file', 'exec').map((call) => call.parameters.params.join(' '))
  .filter((command) => !/^(user list|events|check)/.test(command));

function twoServices() {
  const config = defaultConfig();
  config.pkd.push({ '.type': 'service', '.name': 'web', protocol: 'tcp', port: '443', seconds: '30' });
  return config;
}

async function fillIn(tab, fields) {
  for (const [name, text] of Object.entries(fields)) await tab.fill(`#pkd-${name}`, text);
  await tab.click('#pkd-submit');
}

async function add(tab, fields = {}) {
  await tab.click(ADD);
  await fillIn(tab, { name: 'ann', address: 'home.example.net', ...fields });
  await tab.page.waitForSelector(LINE, { visible: true });
  return tab.page.$eval(LINE, (node) => node.textContent);
}

test('a new user’s line is shown at once, with its code and what to type', () => withPage(STATUS, {}, async (tab, router) => {
  const line = await add(tab);
  assert.match(line, /^knock:\/\/ANN@home\.example\.net\/home\?key=0x[0-9a-f]{64}&services=ssh:22&format=2$/);
  assert.ok(line.includes(router.keys.ann), 'the key is the router’s');
  assert.equal(await scan(tab), line);
  assert.equal(await tab.text('#pkd-commands'), 'knock import -\nknock home');
  assert.match(await tab.text('.modal'), /shown only now[^]*Termux/);
  await tab.shot('user', {});
  assert.deepEqual(commands(router), ['user add ann --address home.example.net']);
  await tab.click('#pkd-done');
  await closed(tab);
  await tab.wait(() => document.querySelector('#pkd-users tr[data-name="ann"]'));
}));

test('beside the line stands what is wrong with the gate', () => withPage(STATUS, {}, async (tab, router) => {
  await add(tab);
  assert.equal(await tab.text('#pkd-note'), '');
  await tab.click('#pkd-done');
  router.status.state = 'disabled';
  await add(tab, { name: 'bob' });
  await tab.waitForText('#pkd-note', 'The gate is disabled: knocks are ignored.');
}));

test('a user may open some services, until a day, at several addresses', () => withPage(STATUS, { config: twoServices() }, async (tab, router) => {
  await tab.click(ADD);
  await tab.click('#pkd-services input[value="ssh"]');
  await fillIn(tab, { name: 'ann', date: '2027-12-31', address: 'gw.example.net, 192.0.2.1 [2001:db8::1]' });
  await tab.page.waitForSelector(LINE);
  assert.deepEqual(commands(router), [
    'user add ann --service web --expires 2027-12-31 --address gw.example.net --address 192.0.2.1 --address [2001:db8::1]']);
  await tab.click('#pkd-done');
  await tab.wait(() => document.querySelector('#pkd-users tr[data-name="ann"]'));
  assert.deepEqual((await tab.rows('#pkd-users'))[0].slice(0, 3), ['ann', 'web', 'until 2027-12-31']);
}));

test('the router’s address is remembered, and the line is not', () => withPage(STATUS, {}, async (tab) => {
  const line = await add(tab, { address: 'gw.example.net' });
  const key = line.match(/key=([^&]+)/)[1];
  await tab.click('#pkd-done');
  await closed(tab);
  assert.ok(!(await tab.page.content()).includes(key), 'the closed dialog has it');
  const stored = await tab.page.evaluate(() => JSON.stringify([{ ...localStorage }, { ...sessionStorage }]));
  assert.ok(!stored.includes(key) && stored.includes('gw.example.net'), stored);
  await tab.open(STATUS);
  await tab.click(ADD);
  assert.equal(await tab.page.$eval('#pkd-address', (node) => node.value), 'gw.example.net');
}));

test('only the answer that shows it contains the key', () => withPage(STATUS, {}, async (tab, router) => {
  await add(tab);
  await tab.click('#pkd-done');
  for (const page of [CONFIG, STATUS]) {
    await tab.open(page);
    assert.ok(!(await tab.page.content()).includes(router.keys.ann));
  }
  assert.ok(router.answers.length > 8);
  assert.equal(router.answers.filter((answer) => answer.includes(router.keys.ann)).length, 1);
  assert.ok(!JSON.stringify(router.calls).includes(router.keys.ann), 'the browser sends it nowhere');
}));

test('Copy copies the line', () => withPage(STATUS, {}, async (tab, router) => {
  await tab.page.browserContext().overridePermissions(router.url, ['clipboard-read']);
  const line = await add(tab);
  await tab.click('#pkd-copy');
  assert.equal(await tab.page.evaluate(() => navigator.clipboard.readText()), line);
}));

test('Cancel does nothing', () => withPage(STATUS, {}, async (tab, router) => {
  for (const opener of [ADD, button('me', 'action'), button('me', 'negative')]) {
    await tab.click(opener);
    await tab.click('#pkd-cancel');
    await closed(tab);
  }
  assert.deepEqual(commands(router), []);
}));

for (const [what, fields, message] of [
  ['a name that pkd refuses', { name: 'a-b' }, 'invalid name a-b: expected letters, digits and _'],
  ['a name that is taken', { name: 'me' }, 'there is a section me in /etc/config/pkd already'],
  ['no address', { address: '' }, 'Enter the router’s name or address'],
  ['an address that is none', { address: '$(id)' }, 'Invalid host “$(id)”: expected the router’s name or address'],
  ['an address that looks like an option', { address: '-v' }, 'Invalid host “-v”'],
]) {
  test(`${what}: the dialog says so`, () => withPage(STATUS, {}, async (tab, router) => {
    await tab.click(ADD);
    await fillIn(tab, { name: 'ann', address: 'gw', ...fields });
    await tab.waitForText(PROBLEM, message);
    assert.deepEqual(router.keys, {});
    await fillIn(tab, { name: 'ann', address: 'gw' });
    await tab.page.waitForSelector(LINE);
  }));
}

test('a user who may open nothing is refused', () => withPage(STATUS, {}, async (tab, router) => {
  await tab.click(ADD);
  await tab.click('#pkd-services input');
  await fillIn(tab, { name: 'ann', address: 'gw' });
  await tab.waitForText(PROBLEM, 'Choose what the user may open.');
  assert.deepEqual(commands(router), []);
}));

test('a new key is shown like the first, and the old one is still listed', () => withPage(STATUS, {}, async (tab, router) => {
  await tab.click(button('me', 'action'));
  await fillIn(tab, { address: 'gw.example.net', date: '2027-01-31' });
  await tab.waitForText(LINE, 'knock://PKD0@gw.example.net/gw?key=0x');
  assert.deepEqual(commands(router), ['user rotate me --until 2027-01-31 --address gw.example.net']);
  await tab.click('#pkd-done');
  await tab.wait(() => document.querySelector('#pkd-users tr[data-name="me_old"]'));
  assert.equal((await tab.rows('#pkd-users'))[1][2], 'old key, until that of me was used, until 2027-01-31');
  await tab.click(button('me', 'action'));
  await fillIn(tab, {});
  await tab.waitForText(PROBLEM, 'the key of "me" was replaced already');
}));

test('a user is revoked after a question', () => withPage(STATUS, {}, async (tab, router) => {
  await tab.click(button('me', 'negative'));
  assert.deepEqual(commands(router), []);
  await tab.click('#pkd-submit');
  await closed(tab);
  await tab.waitForText('#pkd-users', 'nobody can knock');
  assert.deepEqual(commands(router), ['user revoke me']);
}));

const broken = (sentence) => ({ '/usr/sbin/pkd user add *': () => ({ code: 1, stderr: sentence }) });
for (const [what, programs, message] of [
  // As pkd says if the service cannot take over what it has written.
  ['a reload that fails', broken('pkd: user ann is in the configuration, but: no nft\n'), 'user ann is in the configuration, but: no nft'],
  ['a failure without a word', broken(''), 'pkd failed and does not say why'],
  ['pkd is missing', { '/usr/sbin/pkd user add *': undefined }, 'Resource not found'],
]) {
  test(`${what} is no success`, () => withPage(STATUS, { programs }, async (tab) => {
    await tab.click(ADD);
    await fillIn(tab, { name: 'ann', address: 'gw' });
    await tab.waitForText(PROBLEM, message);
    assert.equal(await tab.count(LINE), 0);
  }));
}

test('without a right, the dialog names it', () => {
  const acl = readJson(ACL_FILE);
  delete acl['luci-app-pkd'].write.file['/usr/sbin/pkd user add *'];
  return withPage(STATUS, { acl }, async (tab, router) => {
    await tab.click(ADD);
    await fillIn(tab, { name: 'ann', address: 'gw' });
    await tab.waitForText(PROBLEM, 'permission denied: this login needs write access');
    assert.deepEqual(router.keys, {});
  });
});

test('a login with read access only is offered nothing', () => withPage(STATUS, { parts: ['read'] }, async (tab) => {
  assert.equal((await tab.rows('#pkd-users')).length, 1);
  assert.equal(await tab.count('#pkd-status button'), 0);
}));

test('without a QR library only the line is shown', () => withPage(STATUS, { without: ['uqr'] }, async (tab) => {
  assert.match(await add(tab), /^knock:/);
  assert.equal(await tab.count('#pkd-code'), 0);
}));

// What a camera would read from the screen.
async function scan(tab) {
  const code = await tab.page.$('#pkd-code svg');
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

