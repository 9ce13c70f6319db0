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

// Waits for the calls that a click causes.
async function until(check) {
  for (const end = Date.now() + 15000; !check();) {
    assert.ok(Date.now() < end, `timed out waiting for ${check}`);
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

function withMode(mode, config = defaultConfig()) {
  config.pkd[0].mode = mode;
  return config;
}

test('the page shows the configuration', () => withPage(CONFIG, {}, async (tab, router) => {
  const value = (section, option) => tab.page.$eval(widget(section, option), (node) => node.value);
  assert.equal(await value('gate', 'port'), 'any');
  assert.equal(await value('gate', 'clock'), 'ntp');
  assert.equal(await value('gate', 'mode'), 'nft');
  assert.equal(await value('gate', 'mark'), '0x00ff0000');
  assert.equal(await tab.page.$eval(widget('gate', 'enabled'), (node) => node.checked), false);
  assert.equal(await tab.text(`${box('gate', 'zone')} li[selected]`), 'wan');
  assert.deepEqual((await tab.rows('#cbi-pkd-service table'))[0].slice(0, 5), ['ssh', 'tcp', '22', '30', 'all users']);
  assert.deepEqual((await tab.rows('#cbi-pkd-user table'))[0].slice(0, 7), ['me', 'Yes', 'PKD0', '2', 'ssh', '10', 'never']);
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

test('the zones are those of the firewall, and “Any zone” is any in UCI', () => withPage(CONFIG, {}, async (tab, router) => {
  assert.equal(await tab.text(box('gate', 'zone')), 'Any zone\nlan\nwan');
  await tab.click(`${box('gate', 'zone')} li[data-value="*"]`);
  await tab.click('#handleSave');
  await until(() => router.callsOf('uci', 'set').length);
  assert.equal(router.callsOf('uci', 'set')[0].parameters.values.zone, 'any');
  await tab.wait((one) => document.querySelector(one), `${box('gate', 'zone')} li[data-value="*"][selected]`);
}));

for (const [why, options] of [
  ['a login that may not read the networks', { admin: false }],
  ['a LuCI without the zone widget', { without: ['tools.widgets'] }],
]) {
  test(`${why} still lists the zones by name`, () => withPage(CONFIG, options, async (tab, router) => {
    assert.deepEqual(await tab.page.$eval(widget('gate', 'zone'), (node) => [...node.options].map((one) => one.value)), ['*', 'lan', 'wan']);
    assert.equal(await tab.page.$eval(widget('gate', 'zone'), (node) => node.value), 'wan');
    await tab.page.select(widget('gate', 'zone'), '*');
    await tab.click('#handleSave');
    await until(() => router.callsOf('uci', 'set').length);
    assert.equal(router.callsOf('uci', 'set')[0].parameters.values.zone, 'any');
  }));
}

// The messages are pkdd's; its own tests have every mistake.
const GATE = [
  ['port', '0', 'gate: invalid port 0: expected 1–65535'],
  ['port', '22x', 'gate: invalid port "22x": expected 1–65535'],
  ['port', 'anyone', 'gate: invalid port "anyone": expected 1–65535'],
  ['port', "1'\n2 \\", 'gate: invalid port "1\'2 \\": expected'],
  ['mark', '0x1', 'gate: invalid mark "0x1": expected 2 to 8 adjacent bits'],
  ['mark', 'ff', 'gate: invalid mark "ff": expected a hexadecimal mask'],
];

test('the gate rejects invalid values, names them, and saves nothing', () => withPage(CONFIG, {}, async (tab, router) => {
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

test('the gate can use the kernel module', () => withPage(CONFIG, {}, async (tab, router) => {
  await tab.click('#cbi-pkd-gate li[data-tab="advanced"]');
  await tab.page.select(widget('gate', 'mode'), 'match');
  await tab.click('#handleSave');
  await until(() => router.callsOf('uci', 'set').length > 0);
  assert.equal(router.callsOf('uci', 'set').at(-1).parameters.values.mode, 'match');
}));

test('the gate accepts valid values', () => withPage(CONFIG, {}, async (tab, router) => {
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

// In a dialog, LuCI marks the field and shows the message beside it.
async function refused(tab, field, value, message) {
  await tab.fill(field, value);
  await tab.click(SAVE_MODAL);
  await marked(tab, message);
}

// Waits until a field of the dialog is marked with this problem.
async function marked(tab, message) {
  await tab.wait((text) => [...document.querySelectorAll('#modal_overlay .cbi-input-invalid[data-tooltip]')]
    .some((node) => node.getAttribute('data-tooltip').includes(text)), message);
}

const SERVICE = [
  ['port', 'any', 'invalid port "any": expected 1–65535'],
  ['port', '99999', 'invalid port 99999: expected 1–65535'],
  ['seconds', '0', 'invalid seconds 0: expected 1–86400'],
  ['seconds', '1.5', 'invalid seconds "1.5": expected 1–86400'],
];

test('a service rejects invalid values, names them, and saves nothing', () => withPage(CONFIG, {}, async (tab, router) => {
  await edit(tab, 'ssh');
  for (const [option, value, message] of SERVICE) {
    const good = await tab.page.$eval(widget('ssh', option), (node) => node.value);
    await refused(tab, `${MODAL} ${widget('ssh', option)}`, value, message);
    await tab.fill(`${MODAL} ${widget('ssh', option)}`, good);
  }
  await refused(tab, `${MODAL} ${box('ssh', 'tag')} input`, 'TOOLONG', 'invalid tag "TOOLONG"');
  assert.deepEqual(changes(router), []);
}));

test('a stored invalid tag of a service is rejected too', () => {
  const config = defaultConfig();
  config.pkd[1].tag = ['SSHK', '0xnope'];
  return withPage(CONFIG, { config }, async (tab, router) => {
    await edit(tab, 'ssh');
    await tab.click(SAVE_MODAL);
    await tab.page.waitForSelector(`${MODAL} [data-tooltip*='invalid tag "0xnope"']`);
    assert.deepEqual(changes(router), []);
  });
});

const USER = [
  ['tag', 'ABCDE', 'invalid tag "ABCDE"'],
  ['tag', 'äöü', 'invalid tag "äöü"'],
  ['tag', '0x12g4', 'invalid tag "0x12g4"'],
  ['window', '301', 'invalid window 301: expected 1–300'],
  ['expires', '31.12.2027', 'invalid expires "31.12.2027": expected a date such as 2027-12-31'],
  ['expires', '2027-02-29', 'invalid expires "2027-02-29": expected a date such as 2027-12-31'],
  ['key_file', 'me.key', 'invalid key_file "me.key": expected an absolute path'],
  ['key_file', '/etc/my keys/me', 'invalid key_file "/etc/my keys/me": expected only letters'],
];

test('a user rejects invalid values, names them, and saves nothing', () =>
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

test('a user accepts valid values, and an emptied option is deleted', () =>
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

// LuCI itself validates only fields that were touched.
test('a deleted service is rejected although the field was not touched', () =>
  withPage(CONFIG, { config: withUsers({ '.name': 'two', service: ['ssh', 'web'] }) }, async (tab, router) => {
    await edit(tab, 'two');
    await tab.click(SAVE_MODAL);
    await tab.page.waitForSelector(`${MODAL} [data-tooltip*='unknown service "web"']`);
    assert.deepEqual(changes(router), []);
  }));

test('with the kernel module, another user’s tag is rejected when the page is saved', () =>
  withPage(CONFIG, { config: withMode('match', withUsers({ '.name': 'one' }, { '.name': 'two', tag: '0x504b4430' })) }, async (tab, router) => {
    await tab.click('#handleSave');
    await tab.waitForText(MODAL, 'two: same tag as user "one"');
    assert.deepEqual(changes(router), []);
  }));

test('a problem elsewhere does not keep a dialog from being saved', () =>
  withPage(CONFIG, { config: withUsers({ '.name': 'one', tag: 'TOOLONG' }, { '.name': 'two' }) }, async (tab, router) => {
    await edit(tab, 'two');
    await tab.fill(`${MODAL} ${widget('two', 'window')}`, '20');
    await tab.click(SAVE_MODAL);
    await until(() => router.callsOf('uci', 'set').length > 0);
  }));

test('what a dialog was refused is not saved with the page', () => withPage(CONFIG, {}, async (tab, router) => {
  await edit(tab, 'ssh');
  await refused(tab, `${MODAL} ${widget('ssh', 'port')}`, '99999', 'invalid port 99999');
  await tab.click(`${MODAL} .right button`);
  await tab.fill(widget('gate', 'port'), '62201');
  await tab.click('#handleSave');
  await until(() => router.callsOf('uci', 'set').length);
  assert.equal(router.staged.pkd.find((section) => section['.name'] === 'ssh').port, '22');
}));

test('the page warns of a key in the configuration', async () => {
  const warning = (tab) => tab.page.$eval('#pkd-legacy', (node) => [getComputedStyle(node).display, node.innerText]);
  await withPage(CONFIG, { config: withUsers({ '.name': 'me', key: 'hunter2' }) }, async (tab) => {
    assert.match((await warning(tab)).join(), /^block,The key of “me” is stored in the configuration/);
  });
  await withPage(CONFIG, {}, async (tab) => assert.equal((await warning(tab))[0], 'none'));
});

test('no key leaves the page for the check', () => {
  const config = withUsers({ '.name': 'me', key: 'a secret 5417' });
  return withPage(CONFIG, { config }, async (tab, router) => {
    await tab.fill(widget('gate', 'port'), '62201');
    await tab.click('#handleSave');
    await until(() => router.callsOf('uci', 'set').length);
    const commands = router.callsOf('cgi-io', 'exec').map((call) => call.parameters.command);
    assert.ok(commands.length > 0 && commands.every((command) => !command.includes('5417')), commands.join());
  });
});

for (const [why, answer] of [
  ['pkd is missing', undefined],
  ['pkd fails', () => ({ body: '' })],
]) {
  test(`if ${why}, nothing is saved and one line says so`, () =>
    withPage(CONFIG, { programs: { '/usr/sbin/pkd check --json *': answer }, faults: true }, async (tab, router) => {
      await tab.fill(widget('gate', 'port'), '62201');
      await tab.click('#handleSave');
      await tab.waitForText(MODAL, 'Cannot check the configuration with “pkd check”: ');
      assert.deepEqual(changes(router), []);
    }));
}

test('a new service has the values that were entered', () => withPage(CONFIG, {}, async (tab, router) => {
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

test('a service may have several ports', () => {
  const config = defaultConfig();
  config.pkd.push({ '.type': 'service', '.name': 'web', protocol: 'tcp', port: ['80', '443'], seconds: '30' });
  return withPage(CONFIG, { config }, async (tab, router) => {
    await edit(tab, 'web');
    const field = `${MODAL} ${widget('web', 'port')}`;
    assert.equal(await tab.page.$eval(field, (input) => input.value), '80 443');
    await refused(tab, field, '80 8100-8000', 'invalid port "8100-8000": expected the lower port first');
    await refused(tab, field, '80 443x', 'invalid port "443x": expected 1–65535');
    await tab.fill(field, '80 443 8000-8100');
    await tab.click(SAVE_MODAL);
    await until(() => router.callsOf('uci', 'set').length > 0);
    assert.deepEqual(router.callsOf('uci', 'set')[0].parameters,
      { config: 'pkd', section: 'web', values: { port: '80 443 8000-8100' } });
  });
});

for (const [mode, problem] of [['match', 'end_connections needs mode nft'], ['nft', null]]) {
  test(`connections of a service end with the grant only in mode nft: ${mode}`, () => {
    return withPage(CONFIG, { config: withMode(mode) }, async (tab, router) => {
      await edit(tab, 'ssh');
      await tab.click(`${MODAL} ${box('ssh', 'end_connections')} input[type="checkbox"]`);
      await tab.click(SAVE_MODAL);
      if (problem) {
        await marked(tab, problem);
        assert.deepEqual(changes(router), []);
      } else {
        await until(() => router.callsOf('uci', 'set').length > 0);
        assert.deepEqual(router.callsOf('uci', 'set')[0].parameters,
          { config: 'pkd', section: 'ssh', values: { end_connections: '1' } });
      }
    });
  });
}

test('a user can open a service that was just added', () => withPage(CONFIG, {}, async (tab, router) => {
  await add(tab, 'service', 'web');
  await tab.fill(`${MODAL} ${widget('web', 'port')}`, '443');
  await tab.click(SAVE_MODAL);
  await tab.wait(() => !document.querySelector('body.modal-overlay-active'));
  await edit(tab, 'me');
  await tab.click(`${MODAL} ${box('me', 'service')} li[data-value="web"]`);
  await tab.fill(`${MODAL} ${widget('me', 'expires')}`, '2027-12-31');
  await tab.shot('config-user', {});
  await tab.click(SAVE_MODAL);
  await until(() => router.callsOf('uci', 'set').length);
  const { service, expires } = router.staged.pkd.find((section) => section['.name'] === 'me');
  assert.deepEqual([service, expires], [['ssh', 'web'], '2027-12-31']);
}));

// LuCI leaves a removed option in what it returns of a section.
test('a wrong option can be removed', () =>
  withPage(CONFIG, { config: withUsers({ '.name': 'me', expires: 'soon' }) }, async (tab, router) => {
    await edit(tab, 'me');
    await tab.fill(`${MODAL} ${widget('me', 'expires')}`, '');
    await tab.click(SAVE_MODAL);
    await until(() => router.callsOf('uci', 'delete').length);
    await tab.fill(widget('gate', 'port'), '62201');
    await tab.click('#handleSave');
    await until(() => router.callsOf('uci', 'set').length);
  }));

test('users are added and removed on the other page', () => withPage(CONFIG, {}, async (tab) => {
  for (const selector of ['.cbi-section-create', '.cbi-button-remove']) assert.equal(await tab.count(`#cbi-pkd-user ${selector}`), 0);
  assert.match(await tab.text('#cbi-pkd-user .cbi-section-descr'), /Status page/);
}));

test('a dismissed dialog adds nothing', () => withPage(CONFIG, {}, async (tab, router) => {
  await add(tab, 'service', 'web');
  await tab.page.waitForSelector(SAVE_MODAL);
  await tab.click(`${MODAL} .right button`);
  await tab.click('#handleSave');
  await tab.wait(() => !document.querySelector('.spinning'));
  assert.equal(router.callsOf('uci', 'add').length, 0);
}));

for (const [type, name, message] of [
  ['service', 'a'.repeat(26), 'expected at most 25 characters, found 26'],
  ['service', 'me', 'Name “me” is already in use'],
  ['service', 'gate', 'Name “gate” is already in use'],
]) {
  test(`${type} ${name}: the name is rejected`, () => withPage(CONFIG, {}, async (tab, router) => {
    await add(tab, type, name);
    await tab.waitForText('#maincontent > .alert-message', message);
    assert.equal(await tab.count(SAVE_MODAL), 0);
    assert.deepEqual(changes(router), []);
  }));
}

// LuCI's own field rejects these too; the test makes it accept them.
test('names contain only letters, digits and _', () => withPage(CONFIG, {}, async (tab, router) => {
  for (const [name, wrong] of [['a-b', '-'], ['a b', ' '], ['ä', 'ä'], ['../x', '.'], ['<b>', '<']]) {
    await tab.fill('#cbi-pkd-service .cbi-section-create-name', name);
    await tab.page.evaluate(() => {
      document.querySelector('#cbi-pkd-service .cbi-section-create-name').classList.remove('cbi-input-invalid');
      document.querySelector('#cbi-pkd-service .cbi-button-add').disabled = false;
      document.querySelector('#cbi-pkd-service .cbi-button-add').click();
    });
    await tab.waitForText('#maincontent > .alert-message', `Invalid name “${name}”: “${wrong}” is not allowed`);
  }
  assert.equal(await tab.count(SAVE_MODAL), 0);
  assert.deepEqual(changes(router), []);
}));

test('a service that a user opens cannot be deleted; others can', () => {
  const config = defaultConfig();
  config.pkd.push({ '.type': 'service', '.name': 'old', protocol: 'tcp', port: '23', seconds: '30' });
  return withPage(CONFIG, { config }, async (tab, router) => {
    await tab.click('tr[data-sid="ssh"] .cbi-button-remove');
    await tab.waitForText('#maincontent > .alert-message', 'Cannot delete service “ssh”: remove it from “me” first.');
    assert.deepEqual(changes(router), []);
    await tab.click('tr[data-sid="old"] .cbi-button-remove');
    await until(() => router.callsOf('uci', 'delete').length);
    assert.deepEqual(router.callsOf('uci', 'delete').map((call) => call.parameters), [{ config: 'pkd', section: 'old' }]);
  });
});

test('a login with read access only cannot change anything', () => withPage(CONFIG, { parts: ['read'] }, async (tab, router) => {
  for (const selector of [widget('gate', 'port'), '#cbi-pkd-service .cbi-button-remove', '#cbi-pkd-service .cbi-section-create-name']) {
    assert.equal(await tab.page.$eval(selector, (node) => node.disabled), true, selector);
  }
  assert.deepEqual(changes(router), []);
}));

test('without the right to read the configuration, one line says which right is missing', () => {
  const acl = readJson(ACL_FILE);
  acl['luci-app-pkd'].read.uci = ['firewall'];
  return withPage(CONFIG, { acl }, async (tab) => {
    assert.match(await tab.text('#pkd-error'), /may not read pkd’s configuration.*luci-app-pkd/);
    assert.equal(await tab.count('#view-error'), 0);
  });
});

test('without a configuration, one line says so', async () => {
  const config = defaultConfig();
  delete config.pkd;
  await withPage(CONFIG, { config }, async (tab) => assert.match(await tab.text('#pkd-error'), /Cannot read pkd’s configuration: .*not found/));
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
    const unharmed = async () => {
      assert.equal(await tab.count('img'), 0);
      assert.equal(await tab.page.evaluate(() => window.broken), undefined);
    };
    await unharmed();
    for (const section of ['ssh', 'me']) {
      await edit(tab, section);
      await tab.click(SAVE_MODAL);
      await tab.page.waitForSelector(`${MODAL} .cbi-input-invalid`);
      await unharmed();
      await tab.click(`${MODAL} .right button`);
    }
    await tab.click('#handleSave');
    await tab.waitForText(MODAL, evil);
    await unharmed();
    assert.deepEqual(changes(router), []);
  });
});
