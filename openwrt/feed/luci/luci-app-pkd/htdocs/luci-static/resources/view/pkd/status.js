'use strict';
'require view';
'require fs';
'require poll';
'require dom';

/* Everything shown is the output of one program. Its strings always go into the page inside an array, because E() and
 * dom.content() treat a bare string as HTML. */

const POLL_SECONDS = 3;

/* The kind of message, the state in one sentence, and what to do. */
function describe(status) {
	switch (status.state) {
	case 'open':
		return [ 'success', _('The gate is running and accepts knocks.'), '' ];

	case 'waiting-for-time':
		return [ 'warning', _('The gate is waiting: knocks are ignored until NTP has set the clock.'),
			_('This ends once the router reaches a time server; they are listed under System → System → Time Synchronization.') ];

	case 'disabled':
		return [ 'notice', _('The gate is disabled: knocks are ignored.'),
			_('Select “Enabled” on the Configuration page, then choose Save & Apply.') ];

	case 'stopped':
		return [ 'warning', _('The gate is enabled but not running: knocks are ignored.'),
			_('Start “pkd” under System → Startup; Status → System Log shows why it stopped.') ];

	case 'error':
		return [ 'error', _('The gate has an error: %s').format(status.reason || _('no reason given')),
			_('Correct it on the Configuration page, then choose Save & Apply; Status → System Log may show more.') ];
	}

	return [ 'error', _('pkd reports a state that this page does not know: %s').format(status.state),
		_('Update the packages pkd and luci-app-pkd together.') ];
}

const COUNTERS = [
	[ 'accept', _('Accepted'), _('Valid knocks; each opened its user’s services') ],
	[ 'close', _('Closed'), _('Valid knocks of format 2 that ended what the same user had opened') ],
	[ 'length', _('Wrong length'), _('Not a knock: a datagram of a different length') ],
	[ 'tag', _('Unknown tag'), _('Unknown tag; with several users, each user’s rule also counts the other users’ knocks') ],
	[ 'window', _('Outside the window'), _('Time outside the window: compare both clocks') ],
	[ 'replay', _('Replayed'), _('Already used, or not later than the floor') ],
	[ 'waiting', _('Waiting'), _('After a start, until every knock can be told from a replay; mode “match” counts them as replayed') ],
	[ 'filter', _('Wrong filter'), _('A forgery in format 2, or a knock for another port') ],
	[ 'digest', _('Wrong digest'), _('Wrong key, bound to other addresses, or a forgery') ],
	[ 'request', _('Unknown request'), _('Not bound to what the user requires, or of a later version') ],
	[ 'limited', _('Not checked'), _('Dropped beyond the rate limit; mode “match” has none') ]
];

const USER_STATES = {
	'active': _('active'),
	'disabled': _('disabled'),
	'expired': _('expired')
};

/* One line that describes the error. */
function explain(error) {
	switch (error.name) {
	case 'PermissionError':
		return _('This login may not read pkd’s status: it needs the access group luci-app-pkd.');

	case 'NotFoundError':
		return _('Cannot find /usr/sbin/pkd: install the package pkd.');

	case 'SyntaxError':
	case 'TypeError':
		return _('Cannot read the output of “pkd status --json”: %s').format(error.message);
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
	/* Never rejects, so that the page is shown even if pkd fails. */
	ask: function() {
		return fs.exec_direct('/usr/sbin/pkd', [ 'status', '--json' ], 'json').then((status) => {
			if (status === null || typeof status !== 'object' || typeof status.state !== 'string')
				throw new TypeError(_('missing state'));

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
		/* What pkdd or the kernel module reports; null while neither does. */
		const gate = status.gate || {};
		const counters = Object.assign({ 'limited': gate.limited }, gate.counters);
		const port = (grant) => {
			const service = list(gate.services).find((one) => one.name === grant.service) || {};

			const ports = L.toArray(service.ports).map(plain).join(', ') || plain(service.port);

			return '%s/%s'.format(ports, plain(service.protocol));
		};
		const nodes = [
			E('div', { 'class': 'alert-message ' + kind, 'id': 'pkd-state', 'data-state': plain(status.state) }, [
				E('strong', {}, [ sentence ]),
				advice ? E('div', {}, [ advice ]) : ''
			])
		];

		nodes.push(section(_('Open now'), table('pkd-grants',
			[ _('Service'), _('Port'), _('Address'), _('Time left') ],
			list(gate.grants).map((grant) => [
				plain(grant.service),
				port(grant),
				plain(grant.address),
				E('span', {
					'class': 'pkd-left',
					'data-ends': String(at + Number(grant.seconds_left) * 1000)
				}, [ duration(Number(grant.seconds_left)) ])
			]),
			_('Nothing is open: there was no valid knock recently.'))));

		nodes.push(section(_('Users'), table('pkd-users',
			[ _('Name'), _('Tag'), _('Format'), _('State'), _('Window'), _('Knocks'), _('Newest knock'), _('Floor'), _('Accepts knocks') ],
			list(gate.users).map((user) => [
				plain(user.name),
				plain(user.tag),
				plain(user.format),
				USER_STATES.hasOwnProperty(user.state) ? USER_STATES[user.state] : plain(user.state),
				'± %s s'.format(plain(user.window)),
				_('%s of %s').format(plain(user.knocks), plain(user.capacity)),
				user.newest ? utc(user.newest) : _('none yet'),
				utc(user.floor),
				user.wait > 0 ? _('in %s').format(duration(user.wait)) : _('now')
			]),
			_('There are no users: nobody can knock.'))));

		nodes.push(section(_('Received datagrams'), table('pkd-counters',
			[ _('Verdict'), _('Datagrams'), _('Meaning') ],
			COUNTERS.map((row) => [ row[1], plain(counters[row[0]]), row[2] ]), '')));

		nodes.push(E('p', {}, [
			_('pkd %s, mode %s. Router’s clock: %s.').format(
				plain(status.version), plain(status.mode), utc(gate.now)) ]));

		return nodes;
	},

	show: function(answer) {
		dom.content(this.page, answer.error
			? this.renderError(answer.error)
			: this.renderStatus(answer.status, answer.at));
	},

	/* Counts the seconds down between two answers. */
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
				_('pkd keeps ports closed, and opens them only to an address that has just sent a valid knock.'), ' ',
				E('a', { 'href': L.url('admin/services/pkd/config') }, [ _('Configuration') ])
			]),
			this.page
		]);
	},

	handleSaveApply: null,
	handleSave: null,
	handleReset: null
});
