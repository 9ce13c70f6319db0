'use strict';

const assert = require('node:assert/strict');
const { test } = require('node:test');

const { STATUS, useBrowser, withPage } = require('./browser.js');
const { ACL_FILE, defaultConfig, defaultStatus, readJson } = require('../fakes/luci/router.js');

useBrowser();

test('each counter is shown with its meaning', () => withPage(STATUS, {}, async (tab, router) => {
  assert.equal(await tab.page.$eval('#pkd-details', (node) => node.open), false);
  await tab.click('#pkd-details summary');
  const rows = await tab.rows('#pkd-counters');
  assert.deepEqual(rows.map((row) => row.slice(0, 2)), [
    ['Accepted', '1'], ['Closed', '0'], ['Wrong length', '0'], ['Unknown tag', '2'], ['Outside the window', '0'], ['Replayed', '0'], ['Waiting', '4'], ['Wrong filter', '0'],
    ['Wrong digest', '3'], ['Unknown request', '0'], ['Not checked', '5'],
  ]);
  rows.forEach(([name, , meaning]) => assert.ok(meaning.length > 10, name));
  await tab.shot('status-open');
  const asked = router.callsOf('cgi-io', 'exec').length;
  await tab.page.waitForResponse((response) => response.url().endsWith('/cgi-exec'));
  assert.ok(router.callsOf('cgi-io', 'exec').length > asked);
  assert.equal(await tab.page.$eval('#pkd-details', (node) => node.open), true, 'the next answer closes it');
}));

test('a click closes what is open to an address, and the row goes', () => withPage(STATUS, {}, async (tab, router) => {
  assert.deepEqual(await tab.rows('#pkd-grants'), [['ssh', '22/tcp', '192.0.2.7', 'me', await tab.text('.pkd-left'), 'Close']]);
  await tab.click('#pkd-grants button');
  await tab.waitForText('#pkd-grants', 'Nobody');
  assert.deepEqual(router.callsOf('file', 'exec').at(-1).parameters.params, ['check'], 'it asks again');
  assert.ok(router.calls.some((call) => String(call.parameters.params) === 'close,192.0.2.7'));
}));

test('what cannot be closed is said, and stays', () => {
  const programs = { '/usr/sbin/pkd close *': () => ({ code: 1, stderr: 'pkdd: pkdd does not respond: see logread -e pkdd\n' }) };
  return withPage(STATUS, { programs }, async (tab) => {
    await tab.click('#pkd-grants button');
    await tab.waitForText('#maincontent > .alert-message', 'pkdd does not respond: see logread');
    assert.equal((await tab.rows('#pkd-grants'))[0][2], '192.0.2.7');
  });
});

test('the last knocks are shown, the newest first, and a new one at the next answer', () => withPage(STATUS, {}, async (tab, router) => {
  assert.deepEqual((await tab.rows('#pkd-events')).map((row) => row.slice(1)), [
    ['me', '192.0.2.7', 'opened ssh for 30 s'], ['me', '192.0.2.9', 'opened ssh for 30 s']]);
  assert.equal((await tab.rows('#pkd-events'))[0][0], 'Sat Nov 28 12:00:05 2026');
  router.events.push('Sat Nov 28 12:01:00 2026 ann from 192.0.2.1 closed ssh');
  router.status.gate.counters.close += 1;
  await tab.waitForText('#pkd-events', 'closed ssh');
  assert.equal((await tab.rows('#pkd-events')).length, 3);
}));

test('warnings of the check are shown', () => withPage(STATUS, {}, async (tab, router) => {
  assert.equal(await tab.text('#pkd-warnings'), '');
  router.warnings.push('the firewall rule "Allow <b>" lets everyone in');
  router.status.gate.counters.accept += 1;
  await tab.waitForText('#pkd-warnings', 'the firewall rule "Allow <b>" lets everyone in');
}));

test('trouble of a running gate is not green', () => {
  const status = defaultStatus();
  status.gate.trouble = 'cannot write the journal';
  return withPage(STATUS, { status }, async (tab) => {
    assert.match(await tab.text('#pkd-state'), /The gate has trouble: cannot write the journal/);
    assert.match(await tab.page.$eval('#pkd-state', (node) => node.className), /error/);
  });
});

test('a grant’s remaining time counts down between two answers', () => withPage(STATUS, {}, async (tab, router) => {
  assert.deepEqual((await tab.rows('#pkd-grants'))[0].slice(0, 3), ['ssh', '22/tcp', '192.0.2.7']);
  const left = async () => Number((await tab.text('.pkd-left')).replace(' s', ''));
  assert.ok(await left() > 20);
  const asked = router.calls.length;
  await tab.wait(() => Number(document.querySelector('.pkd-left').innerText.replace(' s', '')) < 22);
  assert.ok(router.calls.length <= asked + 1, 'it counts without asking the router');
}));

test('an expired grant is shown as closed before the next answer', () => {
  const status = defaultStatus();
  status.gate.grants[0].seconds_left = 1;
  return withPage(STATUS, { status }, (tab) => tab.waitForText('.pkd-left', 'closed'));
});

test('long times are shown in minutes', () => {
  const status = defaultStatus();
  status.gate.grants[0].seconds_left = 3605;
  return withPage(STATUS, { status }, async (tab) => {
    assert.match(await tab.text('.pkd-left'), /^60 min 0[0-5] s$|^59 min 5\d s$/);
  });
});

test('users and their replay caches are shown', () => {
  const status = defaultStatus();
  status.gate.users.push(
    { name: 'two', tag: '0x00ff0000', format: 'classic', state: 'disabled', window: 30, knocks: 0, capacity: 256, floor: 1799999990, newest: null, wait: 7 });
  const config = defaultConfig();
  config.pkd.push(
    { '.type': 'user', '.name': 'two', tag: 'TWO', enabled: '0', service: ['ssh'] },
    { '.type': 'user', '.name': 'three', tag: 'THRE', expires: '2020-01-01', service: ['ssh'] });
  return withPage(STATUS, { status, config }, async (tab) => {
    assert.deepEqual((await tab.rows('#pkd-users')).map((row) => row.slice(0, 4)), [
      ['me', 'ssh', 'active', '2027-01-15 08:00:00 UTC'],
      ['three', 'ssh', 'expired', 'none yet'],
      ['two', 'ssh', 'disabled; accepts knocks in 7 s', 'none yet'],
    ]);
    await tab.click('#pkd-details summary');
    assert.deepEqual(await tab.rows('#pkd-caches'), [
      ['me', 'SSHK', '2', '± 10 s', '3 of 256', '2027-01-15 07:59:50 UTC'],
      ['two', '0x00ff0000', 'classic', '± 30 s', '0 of 256', '2027-01-15 07:59:50 UTC'],
    ]);
  });
});

test('users of a configuration with an error are not shown as none', () => {
  const config = defaultConfig();
  config.pkd[1].port = '0';
  const programs = { '/usr/sbin/pkd user list --json': () => ({ code: 1, stderr: 'pkd: /etc/config/pkd: service "ssh": invalid port 0\n' }) };
  return withPage(STATUS, { config, programs }, async (tab) => tab.waitForText('#pkd-status', 'service "ssh": invalid port 0'));
});

const STATES = [
  ['open', '', 'The gate is running'],
  ['waiting-for-time', '', 'knocks are ignored until NTP has set the clock'],
  ['disabled', '', 'The gate is disabled'],
  ['stopped', '', 'not running'],
  ['error', 'xt_pkd.ko is not loaded', 'The gate has an error: xt_pkd.ko is not loaded'],
  ['melting', '', 'a state that this page does not know: melting'],
];

for (const [state, reason, sentence] of STATES) {
  test(`state ${state} is described, with advice if something must be done`, () =>
    withPage(STATUS, { status: { ...defaultStatus(), state, reason } }, async (tab) => {
      const text = await tab.text('#pkd-state');
      assert.ok(text.includes(sentence), text);
      assert.equal(text.split('\n').length, state === 'open' ? 1 : 2, text);
      if (state === 'waiting-for-time') await tab.shot('status-waiting');
    }));
}

test('all ports of a service are shown', () => {
  const status = defaultStatus();
  Object.assign(status.gate.services[0], { port: null, ports: ['80', '443', '8000-8100'] });
  return withPage(STATUS, { status }, async (tab) => {
    const ports = (await tab.rows('#pkd-grants')).map((row) => row[1]);
    assert.ok(ports.length > 0 && ports.every((text) => text === '80, 443, 8000-8100/tcp'), ports.join());
  });
});

test('empty tables say that they are empty', () => {
  const status = { ...defaultStatus(), gate: null, state: 'disabled' };
  const programs = { '/usr/sbin/pkd events': () => ({ body: '' }) };
  return withPage(STATUS, { status, programs }, async (tab) => {
    for (const table of ['#pkd-grants', '#pkd-events']) assert.match((await tab.rows(table))[0][0], /\w{3,}/, table);
    assert.equal((await tab.rows('#pkd-users'))[0][0], 'me', 'users are known without a gate');
  });
});

test('the page polls and shows the new state', () => withPage(STATUS, {}, async (tab, router) => {
  router.status = { ...defaultStatus(), state: 'stopped' };
  await tab.waitForText('#pkd-state', 'not running');
}));

const program = (answer) => ({ '/usr/sbin/pkd status --json': () => answer });
const FAILURES = [
  ['the program is missing', { '/usr/sbin/pkd status --json': undefined }, /Cannot find \/usr\/sbin\/pkd: install the package pkd/],
  ['the answer is not JSON', program({ body: 'Segmentation fault' }), /Cannot read the output/],
  ['the answer is empty', program({ body: '' }), /Cannot read the output/],
  ['the answer has no state', program({ body: '{"version":"0.1.0"}' }), /Cannot read the output of .*: missing state/],
  ['the answer is null', program({ body: 'null' }), /Cannot read the output of .*: missing state/],
  ['the web server fails', program({ status: 500, reason: 'Internal Server Error' }), /failed: Internal Server Error/],
];

for (const [what, programs, line] of FAILURES) {
  test(`${what}: one line says so`, () => withPage(STATUS, { programs, faults: true }, async (tab) => {
    const text = await tab.text('#pkd-error');
    assert.match(text, line);
    assert.ok(!text.includes('\n'), text);
    assert.equal(await tab.text('h2'), 'Port knocking');
    assert.equal(await tab.count('table'), 0, 'no old or empty tables are shown');
  }));
}

for (const scope of ['cgi-io', 'file']) {
  test(`without the right to ${scope}, one line says which right is missing`, () => {
    const acl = readJson(ACL_FILE);
    delete acl['luci-app-pkd'].read[scope];
    return withPage(STATUS, { acl, faults: true }, async (tab) => {
      assert.match(await tab.text('#pkd-error'), /needs the access group luci-app-pkd/);
    });
  });
}

test('the page recovers when pkd does', () => {
  let there = false;
  const programs = program();
  programs['/usr/sbin/pkd status --json'] = () => (there ? { body: JSON.stringify(defaultStatus()) } : { body: '?' });
  return withPage(STATUS, { programs, faults: true }, async (tab) => {
    assert.match(await tab.text('#pkd-error'), /Cannot read the output/);
    there = true;
    await tab.waitForText('#pkd-state', 'The gate is running');
    assert.equal(await tab.count('#pkd-error'), 0);
  });
});

test('an incomplete answer does not break the page', () =>
  withPage(STATUS, { status: { state: 'open', gate: { grants: [null, 1, {}], services: 'x', users: {}, counters: null } } }, async (tab) => {
    assert.match(await tab.text('#pkd-state'), /The gate is running/);
    assert.deepEqual((await tab.rows('#pkd-grants'))[0].slice(0, 3), ['?', '?/?', '?']);
  }));

test('HTML in pkd’s output is shown as text', () => {
  const evil = '<img src=x onerror="window.broken=1">';
  const status = {
    ...defaultStatus(), state: 'error', reason: evil, version: evil, mode: evil,
    gate: {
      now: evil,
      counters: { accept: evil },
      services: [{ name: evil, protocol: evil, port: evil }],
      grants: [{ service: evil, address: evil, seconds_left: 9, user: evil }],
      users: [{ name: evil, tag: evil, state: evil, window: evil, knocks: evil, capacity: evil, floor: evil, newest: evil, wait: 0 }],
    },
  };
  const programs = {
    '/usr/sbin/pkd events': () => ({ body: `Sat Nov 28 12:00:00 2026 ${evil.replace(/ /g, '_')} from x ${evil}\n` }),
    '/usr/sbin/pkd check': () => ({ code: 1, stderr: evil }),
    '/usr/sbin/pkd user list --json': () => ({ body: JSON.stringify([{ name: evil, services: [evil], state: evil }]) }),
  };
  return withPage(STATUS, { status, programs }, async (tab) => {
    await tab.click('#pkd-details summary');
    assert.equal(await tab.count('img'), 0);
    assert.equal(await tab.page.evaluate(() => window.broken), undefined);
    const text = await tab.text('#view');
    assert.ok(text.split(evil).length > 15, 'every value is shown');
  });
});

test('a link leads to the configuration', () => withPage(STATUS, {}, async (tab) => {
  await Promise.all([tab.page.waitForNavigation(), tab.click('#view a')]);
  await tab.page.waitForSelector('#cbi-pkd');
}));
