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
  await tab.page.waitForSelector('#pkd-state');
  await tab.open(CONFIG);
  await tab.click('[data-name="_make"] button');
  await tab.click('#pkd-key-write');
  await tab.waitForText('.notification', 'was written');
  assert.equal(router.written.length, 1);
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

test('no right allows reading a file, and only key files can be written', () => {
  const group = readJson(ACL_FILE)['luci-app-pkd'];
  const files = ['read', 'write'].flatMap((part) => Object.entries(group[part].file));
  files.forEach(([pattern, rights]) => {
    assert.equal(rights.length, 1, pattern);
    assert.ok(['exec', 'write'].includes(rights[0]), pattern);
    if (rights[0] === 'write') assert.equal(pattern, '/etc/pkd/keys/*.key');
    // The check reads no file that its argument names.
    else if (pattern !== '/usr/sbin/pkd check --json *') assert.ok(!/[*?[]/.test(pattern), `${pattern} is not a single command`);
  });
  assert.deepEqual(group.write.ubus, { file: ['write'] });
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
    const most = file.endsWith('/resources/pkd/key.js') ? 1 : 0;
    assert.equal((source.match(/innerHTML/g) || []).length, most, `${file}: only the QR code may use innerHTML`);
    assert.doesNotMatch(source, /rawhtml|insertAdjacentHTML|document\.write|\beval\(/);
  }
});

test('the lock file names no registry', () => {
  const lock = fs.readFileSync(path.join(__dirname, 'package-lock.json'), 'utf8');
  assert.doesNotMatch(lock, /"resolved"/);
  assert.match(lock, /"integrity": "sha512-/);
});
