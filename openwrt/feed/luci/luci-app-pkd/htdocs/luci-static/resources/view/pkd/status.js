'use strict';
'require view';
'require fs';
'require poll';
'require dom';

/* What is shown comes from one program. Every text of it goes into the page inside an array: E() and dom.content() take
 * a bare string for HTML. */

const POLL_SECONDS = 3;

/* One sentence, and what to do. */
function describe(status) {
	switch (status.state) {
	case 'open':
		return [ 'success', _('The gate runs: whoever sends a right knock is let in.'), '' ];

	case 'waiting-for-time':
		return [ 'warning', _('The gate waits: no knock counts before NTP has set the clock.'),
			_('This ends by itself once the router reaches a time server; System → System → Time Synchronization has the list.') ];

	case 'disabled':
		return [ 'notice', _('The gate is switched off: no knock counts.'),
			_('Tick “Enabled” on the Configuration page, then Save & Apply.') ];

	case 'stopped':
		return [ 'warning', _('The gate is switched on, but does not run: no knock counts.'),
			_('Start “pkd” under System → Startup; Status → System Log tells why it ended.') ];

	case 'error':
		return [ 'error', _('The gate does not work: %s').format(status.reason || _('no reason is given')),
			_('Correct that on the Configuration page, then Save & Apply; Status → System Log may tell more.') ];
	}

	return [ 'error', _('pkd tells of a state that this page does not know: %s').format(status.state),
		_('Update the packages pkd and luci-app-pkd together.') ];
}

const COUNTERS = [
	[ 'Accept', _('Right knocks; each opened its services') ],
	[ 'Length', _('No knock at all: datagrams of another length') ],
	[ 'Tag', _('Another tag; with several users, each rule counts the knocks of the others') ],
	[ 'Window', _('The knock’s time was too far off; compare both clocks') ],
	[ 'Replay', _('Used before, or older than what the gate remembers') ],
	[ 'Digest', _('Wrong key, or a forgery') ]
];

const USER_STATES = {
	'active': _('active'),
	'disabled': _('switched off'),
	'expired': _('expired: the last day is over'),
	'no-key': _('no key: make one on the Configuration page')
};

/* What went wrong, in one line. */
function explain(error) {
	switch (error.name) {
	case 'PermissionError':
		return _('This login may not ask for the status of pkd: it lacks the access group luci-app-pkd.');

	case 'NotFoundError':
		return _('The program /usr/sbin/pkd is missing: install the package pkd.');

	case 'SyntaxError':
	case 'TypeError':
		return _('What “pkd status --json” answered cannot be read: %s').format(error.message);
	}

	return _('“pkd status --json” failed: %s').format(error.message);
}

function plain(value) {
	return (value === null || typeof value === 'object' || value === undefined) ? '?' : String(value);
}

function utc(seconds) {
	const date = new Date(Number(seconds) * 1000);

	return isNaN(date) ? plain(seconds) : date.toISOString().replace('T', ' ').replace('.000Z', ' UTC');
}

function duration(seconds) {
	const whole = Math.max(0, Math.ceil(seconds));

	return whole < 60
		? _('%d s').format(whole)
		: _('%d min %02d s').format(Math.floor(whole / 60), whole % 60);
}

function list(value) {
	return Array.isArray(value) ? value.filter((one) => one !== null && typeof one === 'object') : [];
}

function table(id, titles, rows, placeholder) {
	const body = rows.length
		? rows.map((cells) => E('tr', { 'class': 'tr' }, cells.map((cell, column) =>
			E('td', { 'class': 'td', 'data-title': titles[column] }, [ cell ]))))
		: [ E('tr', { 'class': 'tr placeholder' }, [
			E('td', { 'class': 'td', 'colspan': titles.length }, [ E('em', {}, [ placeholder ]) ]) ]) ];

	return E('table', { 'class': 'table', 'id': id }, [
		E('tr', { 'class': 'tr table-titles' }, titles.map((title) => E('th', { 'class': 'th' }, [ title ])))
	].concat(body));
}

function section(title, content) {
	return E('div', { 'class': 'cbi-section' }, [ E('h3', {}, [ title ]), content ]);
}

return view.extend({
	/* Never rejects: the page has to come up whatever pkd does. */
	ask: function() {
		return fs.exec_direct('/usr/sbin/pkd', [ 'status', '--json' ], 'json').then((status) => {
			if (status === null || typeof status !== 'object' || typeof status.state !== 'string')
				throw new TypeError(_('it has no state'));

			return { status: status, at: Date.now() };
		}).catch((error) => ({ error: error }));
	},

	load: function() {
		return this.ask();
	},

	renderError: function(error) {
		return [
			E('div', { 'class': 'alert-message error', 'id': 'pkd-error' }, [ explain(error) ])
		];
	},

	renderStatus: function(status, at) {
		const [ kind, sentence, advice ] = describe(status);
		const counters = status.counters || {};
		const nodes = [
			E('div', { 'class': 'alert-message ' + kind, 'id': 'pkd-state', 'data-state': plain(status.state) }, [
				E('strong', {}, [ sentence ]),
				advice ? E('div', {}, [ advice ]) : ''
			])
		];

		nodes.push(section(_('Open now'), table('pkd-grants',
			[ _('Service'), _('Port'), _('For the address'), _('Time left') ],
			list(status.grants).map((grant) => [
				plain(grant.service),
				'%s/%s'.format(plain(grant.port), plain(grant.protocol)),
				plain(grant.address),
				E('span', {
					'class': 'pkd-left',
					'data-ends': String(at + Number(grant.seconds_left) * 1000)
				}, [ duration(Number(grant.seconds_left)) ])
			]),
			_('Nothing is open: nobody has knocked within the last seconds.'))));

		nodes.push(section(_('Users'), table('pkd-users',
			[ _('Name'), _('Tag'), _('State') ],
			list(status.users).map((user) => [
				plain(user.name),
				plain(user.tag),
				USER_STATES.hasOwnProperty(user.state) ? USER_STATES[user.state] : plain(user.state)
			]),
			_('There is no user: nobody can knock.'))));

		nodes.push(section(_('What arrived'), table('pkd-counters',
			[ _('Verdict'), _('Datagrams'), _('Meaning') ],
			COUNTERS.map((row) => [ row[0], plain(counters[row[0]]), row[1] ]), '')));

		nodes.push(section(_('Caches: the memory of knocks'), table('pkd-caches',
			[ _('Tag'), _('Rules'), _('Window'), _('Knocks kept'), _('Newest knock'), _('Nothing counts up to'), _('Hears knocks') ],
			list(status.caches).map((cache) => [
				plain(cache.tag),
				plain(cache.rules),
				'± %s s'.format(plain(cache.window)),
				_('%s of %s').format(plain(cache.knocks), plain(cache.capacity)),
				cache.newest ? utc(cache.newest) : _('none yet'),
				utc(cache.floor),
				cache.wait > 0 ? _('in %s').format(duration(cache.wait)) : _('now')
			]),
			_('No cache is set up: the gate checks no knocks now.'))));

		nodes.push(E('p', {}, [
			_('pkd %s, mode %s; the router’s clock says %s.').format(
				plain(status.version), plain(status.mode), utc(status.now)) ]));

		return nodes;
	},

	show: function(answer) {
		dom.content(this.page, answer.error
			? this.renderError(answer.error)
			: this.renderStatus(answer.status, answer.at));
	},

	/* The seconds between two answers. */
	tick: function() {
		this.page.querySelectorAll('.pkd-left').forEach((node) => {
			const left = (Number(node.getAttribute('data-ends')) - Date.now()) / 1000;

			dom.content(node, [ left > 0 ? duration(left) : _('closed') ]);
		});
	},

	render: function(answer) {
		this.page = E('div', { 'id': 'pkd-status' });
		this.show(answer);

		poll.add(() => this.ask().then((next) => this.show(next)), POLL_SECONDS);
		poll.add(() => this.tick(), 1);

		return E('div', {}, [
			E('h2', {}, [ _('Port knocking') ]),
			E('div', { 'class': 'cbi-map-descr' }, [
				_('pkd keeps ports closed, and opens them to the one address that has just sent the right datagram. '),
				E('a', { 'href': L.url('admin/services/pkd/config') }, [ _('Configuration') ])
			]),
			this.page
		]);
	},

	handleSaveApply: null,
	handleSave: null,
	handleReset: null
});
