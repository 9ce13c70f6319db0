// The package's own files, and the rights that it requests.
'use strict';

const assert = require('node:assert/strict');
const fs = require('node:fs');
const path = require('node:path');
const { test } = require('node:test');

const { CONFIG, STATUS, useBrowser, withPage } = require('./browser.js');
const { scripts, template } = require('./pot.js');
const { ACL_FILE, APP, MENU_FILE, readJson } = require('../fakes/luci/router.js');

useBrowser();

const read = (file) => fs.readFileSync(path.join(APP, file), 'utf8');

// Does everything that the pages can do, once.
async function useEverything(tab, router) {
  await tab.open(STATUS);
  await tab.click('#pkd-grants button');
  await tab.waitForText('#pkd-grants', 'Nobody');
  for (const [opener, done] of [
    ['#pkd-status .cbi-button-add', '#pkd-done'], ['#pkd-users .cbi-button-action', '#pkd-done'], ['#pkd-users .cbi-button-negative', null],
  ]) {
    await tab.click(opener);
    if (done && await tab.page.$('#pkd-name')) await tab.fill('#pkd-name', 'ann');
    if (done) await tab.fill('#pkd-address', 'gw');
    await tab.click('#pkd-submit');
    if (done) await tab.click(done);
    await tab.wait(() => !document.querySelector('body.modal-overlay-active') && !document.querySelector('.spinning'));
  }
  await tab.open(CONFIG);
  await tab.click('#cbi-pkd-gate li[data-tab="advanced"]');
  await tab.fill('[id="widget.cbid.pkd.gate.mark"]', '0x3');
  await tab.click('#handleSave');
  await tab.wait(() => !document.querySelector('.spinning'));
  assert.equal(router.staged.pkd[0].mark, '0x3');
}

test('every right of the access list is used', () => withPage(CONFIG, { admin: false }, async (tab, router) => {
  await useEverything(tab, router);
  assert.deepEqual(router.unusedRights(), []);
  const refused = router.calls.filter((call) => call.code);
  assert.deepEqual(refused.filter((call) => call.parameters.config !== 'network'), [], 'only the right to read the networks is missing');
}));

test('unused rights are detected', () => {
  const acl = readJson(ACL_FILE);
  acl['luci-app-pkd'].read.file['/etc/pkd/keys/*'] = ['read'];
  acl['luci-app-pkd'].write.uci.push('firewall');
  return withPage(CONFIG, { acl, admin: false }, async (tab, router) => {
    await useEverything(tab, router);
    assert.deepEqual(router.unusedRights(), ['read: file /etc/pkd/keys/* read', 'write: uci firewall write']);
  });
});

test('no right allows reading or writing a file, and what changes something needs write access', () => {
  const group = readJson(ACL_FILE)['luci-app-pkd'];
  const changes = ['close', 'user add', 'user revoke', 'user rotate'];
  for (const [part, open] of [['read', ['check --json']], ['write', changes]]) {
    Object.entries(group[part].file).forEach(([pattern, rights]) => {
      assert.deepEqual(rights, ['exec'], pattern);
      const command = pattern.replace(/^\/usr\/sbin\/pkd /, '');
      assert.notEqual(command, pattern);
      // The check opens no file that its argument names.
      if (/[*?[]/.test(command)) assert.ok(open.includes(command.replace(/ \*$/, '')), pattern);
      if (part === 'read') assert.ok(!changes.some((change) => command.startsWith(change)), pattern);
    });
  }
  assert.deepEqual([group.read.ubus, group.write.ubus], [{ file: ['exec'] }, undefined]);
});

test('the access list has the format that rpcd expects', () => {
  const lists = readJson(ACL_FILE);
  assert.deepEqual(Object.keys(lists), ['luci-app-pkd']);
  const strings = (value) => Array.isArray(value) && value.length > 0 && value.every((one) => typeof one === 'string');
  const { description, ...parts } = lists['luci-app-pkd'];
  assert.equal(typeof description, 'string');
  assert.deepEqual(Object.keys(parts), ['read', 'write']);
  for (const part of Object.values(parts)) {
    for (const [scope, objects] of Object.entries(part)) {
      assert.ok(['cgi-io', 'file', 'ubus', 'uci'].includes(scope), scope);
      assert.ok(strings(objects) || Object.values(objects).every(strings), scope);
    }
  }
});

test('the menu has the format that LuCI expects, and its views exist', () => {
  const menu = readJson(MENU_FILE);
  const views = [];
  for (const [place, entry] of Object.entries(menu)) {
    assert.match(place, /^admin\/services\/pkd(\/[a-z]+)?$/);
    assert.equal(typeof entry.title, 'string');
    assert.ok(Number.isInteger(entry.order), place);
    assert.ok(['firstchild', 'view'].includes(entry.action.type), place);
    if (entry.action.type === 'view') {
      assert.ok(place.startsWith('admin/services/pkd/'));
      views.push(`${entry.action.path}.js`);
    }
  }
  assert.deepEqual(menu['admin/services/pkd'].depends, { acl: ['luci-app-pkd'], uci: { pkd: true } });
  const files = fs.readdirSync(path.join(APP, 'htdocs/luci-static/resources/view/pkd')).map((name) => `pkd/${name}`);
  assert.deepEqual(views.sort(), files.sort());
});

test('the Makefile has what LuCI’s build needs', () => {
  const makefile = read('Makefile');
  for (const line of [
    'include $(TOPDIR)/rules.mk', 'LUCI_DEPENDS:=+luci-base +pkd', 'LUCI_PKGARCH:=all',
    'PKG_LICENSE:=MIT OR Apache-2.0', 'include $(TOPDIR)/feeds/luci/luci.mk', '# call BuildPackage - OpenWrt buildroot signature',
  ]) assert.ok(makefile.split('\n').includes(line), line);
  assert.match(makefile, /^LUCI_TITLE:=.+$/m);
});

test('the translation template is up to date', () => {
  assert.equal(read('po/templates/pkd.pot'), template(), 'run node tests/luci/pot.js > openwrt/feed/luci/luci-app-pkd/po/templates/pkd.pot');
});

test('the pages never treat text as HTML', () => {
  const files = scripts();
  assert.equal(files.length, 5);
  for (const file of files) {
    const source = read(file);
    const most = file.endsWith('/resources/pkd/users.js') ? 1 : 0;
    assert.equal((source.match(/innerHTML/g) || []).length, most, `${file}: only the QR code may use innerHTML`);
    assert.doesNotMatch(source, /rawhtml|insertAdjacentHTML|document\.write|\beval\(/);
  }
});

test('the lock file names no registry', () => {
  const lock = fs.readFileSync(path.join(__dirname, 'package-lock.json'), 'utf8');
  assert.doesNotMatch(lock, /"resolved"/);
  assert.match(lock, /"integrity": "sha512-/);
});
