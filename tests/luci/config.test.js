'use strict';

const assert = require('node:assert/strict');
const { test } = require('node:test');

const { CONFIG, useBrowser, withPage } = require('./browser.js');
const { ACL_FILE, defaultConfig, readJson } = require('../fakes/luci/router.js');

useBrowser();

const widget = (section, option) => `[id="widget.cbid.pkd.${section}.${option}"]`;
const box = (section, option) => `[id="cbid.pkd.${section}.${option}"]`;
const MODAL = '#modal_overlay .modal';
const SAVE_MODAL = `${MODAL} .cbi-button-positive`;

const CHANGING = ['add', 'set', 'delete', 'order', 'rename', 'apply'];
const changes = (router) => router.calls.filter((call) => call.object === 'uci' && CHANGING.includes(call.method));

// Waits for the calls that a click leads to.
async function until(check) {
  for (const end = Date.now() + 15000; !check();) {
    assert.ok(Date.now() < end, `it never came to ${check}`);
    await new Promise((resolve) => { setTimeout(resolve, 20); });
  }
}

async function edit(tab, section) {
  await tab.click(`tr[data-sid="${section}"] .cbi-button-edit`);
  await tab.page.waitForSelector(SAVE_MODAL);
}

async function add(tab, type, name) {
  await tab.fill(`#cbi-pkd-${type} .cbi-section-create-name`, name);
  await tab.click(`#cbi-pkd-${type} .cbi-button-add`);
}

function withUsers(...users) {
  const config = defaultConfig();
  config.pkd = config.pkd.filter((section) => section['.type'] !== 'user')
    .concat(users.map((user) => ({ '.type': 'user', tag: 'PKD0', window: '10', service: ['ssh'], ...user })));
  return config;
}

test('what is configured is shown', () => withPage(CONFIG, {}, async (tab, router) => {
  const value = (section, option) => tab.page.$eval(widget(section, option), (node) => node.value);
  assert.equal(await value('gate', 'port'), 'any');
  assert.equal(await value('gate', 'clock'), 'ntp');
  assert.equal(await value('gate', 'mode'), 'match');
  assert.equal(await value('gate', 'mark'), '0x00ff0000');
  assert.equal(await tab.page.$eval(widget('gate', 'enabled'), (node) => node.checked), false);
  assert.equal(await tab.text(`${box('gate', 'zone')} li[selected]`), 'wan');
  assert.deepEqual((await tab.rows('#cbi-pkd-service table'))[0].slice(0, 5), ['ssh', 'tcp', '22', '30', 'all users']);
  assert.deepEqual((await tab.rows('#cbi-pkd-user table'))[0].slice(0, 6), ['me', 'Yes', 'PKD0', 'ssh', '10', 'no end']);
  assert.equal(changes(router).length, 0);
  await tab.shot('config');
}));

test('a changed option is saved through uci set, and committed by Save & Apply', () => withPage(CONFIG, {}, async (tab, router) => {
  await tab.fill(widget('gate', 'port'), '62201');
  await tab.click(widget('gate', 'enabled'));
  await tab.page.select(widget('gate', 'clock'), 'trust');
  await tab.click('#handleSave');
  await until(() => router.callsOf('uci', 'set').length);
  assert.deepEqual(router.callsOf('uci', 'set').map((call) => call.parameters), [
    { config: 'pkd', section: 'gate', values: { enabled: '1', port: '62201', clock: 'trust' } },
  ]);
  assert.equal(router.callsOf('uci', 'apply').length, 0);
  assert.equal(router.committed.pkd[0].port, 'any');
  await tab.click('#handleSaveApply');
  await until(() => router.callsOf('uci', 'confirm').length);
  assert.equal(router.committed.pkd[0].port, '62201');
}));

test('the zone is chosen from those of the firewall, and any zone is any in UCI', () => withPage(CONFIG, {}, async (tab, router) => {
  assert.equal(await tab.text(box('gate', 'zone')), 'Any zone\nlan\nwan');
  await tab.click(`${box('gate', 'zone')} li[data-value="*"]`);
  await tab.click('#handleSave');
  await until(() => router.callsOf('uci', 'set').length);
  assert.equal(router.callsOf('uci', 'set')[0].parameters.values.zone, 'any');
  await tab.wait((one) => document.querySelector(one), `${box('gate', 'zone')} li[data-value="*"][selected]`);
}));

for (const [why, options] of [
  ['may not read the networks', { admin: false }],
  ['has a LuCI without that widget', { without: ['tools.widgets'] }],
]) {
  test(`who ${why} still gets the zones by name`, () => withPage(CONFIG, options, async (tab, router) => {
    assert.deepEqual(await tab.page.$eval(widget('gate', 'zone'), (node) => [...node.options].map((one) => one.value)), ['*', 'lan', 'wan']);
    assert.equal(await tab.page.$eval(widget('gate', 'zone'), (node) => node.value), 'wan');
    await tab.page.select(widget('gate', 'zone'), '*');
    await tab.click('#handleSave');
    await until(() => router.callsOf('uci', 'set').length);
    assert.equal(router.callsOf('uci', 'set')[0].parameters.values.zone, 'any');
  }));
}

const GATE = [
  ['port', '', 'is no port: write a number from 1 to 65535, or any'],
  ['port', '0', '“0” is no port'],
  ['port', '65536', '“65536” is no port'],
  ['port', '-1', '“-1” is no port'],
  ['port', '22x', '“22x” is no port'],
  ['port', '1e3', '“1e3” is no port'],
  ['port', '022', '“022” is no port'],
  ['port', 'anyone', '“anyone” is no port'],
  ['mark', 'ff', '“ff” is no mask: write 0x'],
  ['mark', '0x', '“0x” is no mask'],
  ['mark', '0x1ffffffff', '“0x1ffffffff” is no mask'],
  ['mark', '0x00ff00fg', '“0x00ff00fg” is no mask'],
  ['mark', '0', '“0” is no mask'],
  ['mark', '0x0', '“0x0” has 0 bits'],
  ['mark', '0x1', '“0x1” has 1 bits'],
  ['mark', '0x80000000', '“0x80000000” has 1 bits'],
  ['mark', '0x1ff', '“0x1ff” has 9 bits'],
  ['mark', '0xffffffff', '“0xffffffff” has 32 bits'],
  ['mark', '0x5', 'The bits of “0x5” do not lie side by side'],
  ['mark', '0xf00f', 'The bits of “0xf00f” do not lie side by side'],
];

test('the gate refuses bad values, names them, and saves nothing', () => withPage(CONFIG, {}, async (tab, router) => {
  for (const [option, value, message] of GATE) {
    await tab.click(`#cbi-pkd-gate li[data-tab="${option === 'mark' ? 'advanced' : 'general'}"]`);
    const good = await tab.page.$eval(widget('gate', option), (node) => node.value);
    await tab.fill(widget('gate', option), value);
    await tab.click('#handleSave');
    await tab.waitForText(MODAL, message);
    await tab.click(`${MODAL} button`);
    await tab.fill(widget('gate', option), good);
  }
  assert.deepEqual(changes(router), []);
}));

test('the gate may be checked by the daemon', () => withPage(CONFIG, {}, async (tab, router) => {
  await tab.click('#cbi-pkd-gate li[data-tab="advanced"]');
  await tab.page.select(widget('gate', 'mode'), 'nft');
  await tab.click('#handleSave');
  await until(() => router.callsOf('uci', 'set').length > 0);
  assert.equal(router.callsOf('uci', 'set').at(-1).parameters.values.mode, 'nft');
}));

test('the gate takes good values', () => withPage(CONFIG, {}, async (tab, router) => {
  await tab.click('#cbi-pkd-gate li[data-tab="advanced"]');
  for (const mark of ['0x3', '0xff000000', '0xC0', '0x0000ff00']) {
    const before = router.callsOf('uci', 'set').length;
    await tab.fill(widget('gate', 'mark'), mark);
    await tab.click('#handleSave');
    await until(() => router.callsOf('uci', 'set').length > before);
    assert.equal(router.callsOf('uci', 'set').at(-1).parameters.values.mark, mark);
    await tab.wait(() => !document.querySelector('.spinning'));
    await tab.click('#cbi-pkd-gate li[data-tab="advanced"]');
  }
}));

// In a dialog, LuCI marks the field and puts the message beside it.
async function refused(tab, field, value, message) {
  await tab.fill(field, value);
  await tab.click(SAVE_MODAL);
  await tab.wait((text) => [...document.querySelectorAll('#modal_overlay .cbi-input-invalid[data-tooltip]')]
    .some((node) => node.getAttribute('data-tooltip').includes(text)), message);
}

const SERVICE = [
  ['port', '', 'is no port: a port is a number from 1 to 65535'],
  ['port', 'any', '“any” is no port'],
  ['port', '0', '“0” is no port'],
  ['port', '99999', '“99999” is no port'],
  ['seconds', '0', '“0” is no number of seconds'],
  ['seconds', '86401', '“86401” is no number of seconds'],
  ['seconds', '1.5', '“1.5” is no number of seconds'],
  ['seconds', 'soon', '“soon” is no number of seconds'],
];

test('a service refuses bad values, names them, and saves nothing', () => withPage(CONFIG, {}, async (tab, router) => {
  await edit(tab, 'ssh');
  for (const [option, value, message] of SERVICE) {
    const good = await tab.page.$eval(widget('ssh', option), (node) => node.value);
    await refused(tab, `${MODAL} ${widget('ssh', option)}`, value, message);
    await tab.fill(`${MODAL} ${widget('ssh', option)}`, good);
  }
  await refused(tab, `${MODAL} ${box('ssh', 'tag')} input`, 'TOOLONG', '“TOOLONG” has 7 bytes: a tag has at most 4');
  assert.deepEqual(changes(router), []);
}));

test('a bad tag that a service has from before is refused too', () => {
  const config = defaultConfig();
  config.pkd[1].tag = ['SSHK', '0xnope'];
  return withPage(CONFIG, { config }, async (tab, router) => {
    await edit(tab, 'ssh');
    await tab.click(SAVE_MODAL);
    await tab.page.waitForSelector(`${MODAL} [data-tooltip*="“n” in “0xnope” is no hexadecimal digit"]`);
    assert.deepEqual(changes(router), []);
  });
});

const USER = [
  ['tag', '', 'The tag is missing'],
  ['tag', 'ABCDE', '“ABCDE” has 5 bytes: a tag has at most 4'],
  ['tag', 'äöü', '“äöü” has 6 bytes'],
  ['tag', '0x', '“0x” says that hexadecimal follows'],
  ['tag', '0x12g4', '“g” in “0x12g4” is no hexadecimal digit'],
  ['tag', '0x123456789', '“0x123456789” has more than 8 digits'],
  ['tag', 'SSHK', 'The tag “SSHK” is that of the user “other” already'],
  ['tag', '0x5353484b', 'The tag “0x5353484b” is that of the user “other” already'],
  ['tag', '0x5353484B', 'is that of the user “other” already'],
  ['window', '0', '“0” is no number of seconds'],
  ['window', '86401', '“86401” is no number of seconds'],
  ['expires', '31.12.2027', '“31.12.2027” is no date: write year-month-day'],
  ['expires', '2027-1-1', '“2027-1-1” is no date'],
  ['expires', '2027-02-29', 'There is no day “2027-02-29”'],
  ['expires', '2027-13-01', 'There is no day “2027-13-01”'],
  ['expires', '2027-00-10', 'There is no day “2027-00-10”'],
  ['key_file', 'me.key', '“me.key” is no path'],
  ['key_file', '/etc/my keys/me', '“/etc/my keys/me” is no path'],
];

test('a user refuses bad values, names them, and saves nothing', () =>
  withPage(CONFIG, { config: withUsers({ '.name': 'me' }, { '.name': 'other', tag: 'SSHK' }) }, async (tab, router) => {
    await edit(tab, 'me');
    for (const [option, value, message] of USER) {
      const field = `${MODAL} ${widget('me', option)}`;
      const good = await tab.page.$eval(field, (node) => node.value);
      await refused(tab, field, value, message);
      await tab.fill(field, good);
    }
    assert.deepEqual(changes(router), []);
  }));

test('a user takes good values, and a cleared one is deleted', () =>
  withPage(CONFIG, { config: withUsers({ '.name': 'me', expires: '2027-12-31' }) }, async (tab, router) => {
    for (const [tag, expires] of [['ä', '2028-02-29'], ['0x1', '2027-12-31'], ['0xFFffFFff', '']]) {
      const before = changes(router).length;
      await edit(tab, 'me');
      await tab.fill(`${MODAL} ${widget('me', 'tag')}`, tag);
      await tab.fill(`${MODAL} ${widget('me', 'expires')}`, expires);
      await tab.click(SAVE_MODAL);
      await tab.wait(() => !document.querySelector('body.modal-overlay-active'));
      assert.ok(changes(router).length > before);
      const stored = router.staged.pkd.find((section) => section['.name'] === 'me');
      assert.equal(stored.tag, tag);
      assert.equal(stored.expires, expires || undefined);
    }
    assert.deepEqual(router.callsOf('uci', 'delete').map((call) => call.parameters), [
      { config: 'pkd', section: 'me', options: ['expires'] },
    ]);
  }));

// LuCI checks a field only when it was touched.
for (const [what, users, message] of [
  ['a tag that another user has', [{ '.name': 'one' }, { '.name': 'two', tag: '0x504b4430' }], 'is that of the user “one” already'],
  ['a service that is gone', [{ '.name': 'two', service: ['ssh', 'web'] }], 'There is no service “web”'],
]) {
  test(`${what} is refused though nobody touched the field`, () => withPage(CONFIG, { config: withUsers(...users) }, async (tab, router) => {
    await edit(tab, 'two');
    await tab.click(SAVE_MODAL);
    await tab.page.waitForSelector(`${MODAL} [data-tooltip*="${message}"]`);
    assert.deepEqual(changes(router), []);
  }));
}

test('a service is added with what was typed', () => withPage(CONFIG, {}, async (tab, router) => {
  await add(tab, 'service', 'vpn');
  await tab.page.waitForSelector(SAVE_MODAL);
  assert.equal(await tab.text(`${MODAL} h4`), 'Service vpn');
  await tab.page.select(widget('vpn', 'protocol'), 'udp');
  await tab.fill(`${MODAL} ${widget('vpn', 'port')}`, '51820');
  await tab.page.type(`${MODAL} ${box('vpn', 'tag')} input`, 'a b\n0x5353484B\n');
  await tab.click(SAVE_MODAL);
  await until(() => router.callsOf('uci', 'add').length);
  assert.deepEqual(router.callsOf('uci', 'add')[0].parameters, {
    config: 'pkd', type: 'service', name: 'vpn',
    values: { protocol: 'udp', port: '51820', seconds: '30', tag: ['a b', '0x5353484B'] },
  });
  await tab.wait(() => document.querySelectorAll('#cbi-pkd-service tr').length === 3);
}));

test('a user is added, and may open a service that has just been added', () => withPage(CONFIG, {}, async (tab, router) => {
  await add(tab, 'service', 'web');
  await tab.fill(`${MODAL} ${widget('web', 'port')}`, '443');
  await tab.click(SAVE_MODAL);
  await tab.wait(() => !document.querySelector('body.modal-overlay-active'));
  await add(tab, 'user', 'ann');
  await tab.fill(`${MODAL} ${widget('ann', 'tag')}`, 'ANN1');
  await tab.click(`${MODAL} ${box('ann', 'service')} li[data-value="web"]`);
  await tab.click(`${MODAL} ${box('ann', 'service')} li[data-value="ssh"]`);
  await tab.fill(`${MODAL} ${widget('ann', 'expires')}`, '2027-12-31');
  await tab.shot('config-user', {});
  await tab.click(SAVE_MODAL);
  await until(() => router.callsOf('uci', 'add').length === 2);
  assert.deepEqual(router.callsOf('uci', 'add')[1].parameters, {
    config: 'pkd', type: 'user', name: 'ann',
    values: { tag: 'ANN1', service: ['ssh', 'web'], window: '10', expires: '2027-12-31' },
  });
}));

test('a dialog that is dismissed adds nothing', () => withPage(CONFIG, {}, async (tab, router) => {
  await add(tab, 'user', 'ann');
  await tab.page.waitForSelector(SAVE_MODAL);
  await tab.click(`${MODAL} .right button`);
  await tab.click('#handleSave');
  await tab.wait(() => !document.querySelector('.spinning'));
  assert.equal(router.callsOf('uci', 'add').length, 0);
}));

for (const [type, name, message] of [
  ['service', 'seventeen_letters', 'has 17 characters: at most 16'],
  ['service', 'me', 'The name “me” is taken'],
  ['service', 'gate', 'The name “gate” is taken'],
  ['user', 'ssh', 'The name “ssh” is taken'],
  ['user', 'a'.repeat(33), 'has 33 characters: at most 32'],
]) {
  test(`${type} ${name} is no name`, () => withPage(CONFIG, {}, async (tab, router) => {
    await add(tab, type, name);
    await tab.waitForText('.notification', message);
    assert.equal(await tab.count(SAVE_MODAL), 0);
    assert.deepEqual(changes(router), []);
  }));
}

// LuCI's own field refuses them as well; here it is made to let them through.
test('names have letters, digits and _', () => withPage(CONFIG, {}, async (tab, router) => {
  for (const [name, wrong] of [['a-b', '-'], ['a b', ' '], ['ä', 'ä'], ['../x', '.'], ['<b>', '<']]) {
    await tab.fill('#cbi-pkd-user .cbi-section-create-name', name);
    await tab.page.evaluate(() => {
      document.querySelector('#cbi-pkd-user .cbi-section-create-name').classList.remove('cbi-input-invalid');
      document.querySelector('#cbi-pkd-user .cbi-button-add').disabled = false;
      document.querySelector('#cbi-pkd-user .cbi-button-add').click();
    });
    await tab.waitForText('.notification', `“${wrong}” in the name “${name}” cannot be`);
  }
  assert.equal(await tab.count(SAVE_MODAL), 0);
  assert.deepEqual(changes(router), []);
}));

test('a service that a user opens cannot be deleted; another can', () => {
  const config = defaultConfig();
  config.pkd.push({ '.type': 'service', '.name': 'old', protocol: 'tcp', port: '23', seconds: '30' });
  return withPage(CONFIG, { config }, async (tab, router) => {
    await tab.click('tr[data-sid="ssh"] .cbi-button-remove');
    await tab.waitForText('.notification', 'The service “ssh” stays: take it away from “me” first.');
    assert.deepEqual(changes(router), []);
    await tab.click('tr[data-sid="old"] .cbi-button-remove');
    await until(() => router.callsOf('uci', 'delete').length);
    assert.deepEqual(router.callsOf('uci', 'delete').map((call) => call.parameters), [{ config: 'pkd', section: 'old' }]);
  });
});

test('who may only read can change nothing', () => withPage(CONFIG, { parts: ['read'] }, async (tab, router) => {
  for (const selector of [widget('gate', 'port'), '[data-name="_make"] button', '#cbi-pkd-user .cbi-button-remove', '#cbi-pkd-user .cbi-section-create-name']) {
    assert.equal(await tab.page.$eval(selector, (node) => node.disabled), true, selector);
  }
  assert.deepEqual(changes(router), []);
}));

test('without the right to read the configuration, one line says what is missing', () => {
  const acl = readJson(ACL_FILE);
  acl['luci-app-pkd'].read.uci = ['firewall'];
  return withPage(CONFIG, { acl }, async (tab) => {
    assert.match(await tab.text('#pkd-error'), /may not read the configuration.*luci-app-pkd/);
    assert.equal(await tab.count('#view-error'), 0);
  });
});

test('without a configuration, one line says so', async () => {
  const config = defaultConfig();
  delete config.pkd;
  await withPage(CONFIG, { config }, async (tab) => assert.match(await tab.text('#pkd-error'), /cannot be read: .*not found/i));
  config.pkd = [];
  await withPage(CONFIG, { config }, async (tab) => assert.match(await tab.text('#pkd-error'), /no section “gate”/));
});

test('HTML in the configuration is shown as text', () => {
  const evil = '<img src=x onerror="window.broken=1">';
  const config = defaultConfig();
  Object.assign(config.pkd[0], { port: evil, mark: evil, zone: evil });
  Object.assign(config.pkd[1], { protocol: evil, port: evil, seconds: evil, tag: [evil] });
  Object.assign(config.pkd[2], { tag: evil, window: evil, expires: evil, service: [evil, 'ssh'], key_file: evil, key: evil });
  return withPage(CONFIG, { config, admin: false }, async (tab, router) => {
    const hurt = async () => {
      assert.equal(await tab.count('img'), 0);
      assert.equal(await tab.page.evaluate(() => window.broken), undefined);
    };
    await hurt();
    for (const section of ['ssh', 'me']) {
      await edit(tab, section);
      await tab.click(SAVE_MODAL);
      await tab.page.waitForSelector(`${MODAL} .cbi-input-invalid`);
      await hurt();
      await tab.click(`${MODAL} .right button`);
    }
    await tab.click('[data-name="_make"] button');
    await tab.waitForText('.notification', 'needs a valid tag');
    await tab.click('#handleSave');
    await tab.waitForText(MODAL, evil);
    await hurt();
    assert.deepEqual(changes(router), []);
  });
});
