'use strict';
'require view';
'require fs';
'require poll';
'require rpc';
'require dom';
'require uci';
'require ui';
'require pkd.users as users';

/* Everything shown is what the program pkd says. Its strings always go into the page inside an array, because E() and
 * dom.content() treat a bare string as HTML. */

const POLL_SECONDS = 3;
const EVENTS = 20;
const COLOURS = { 'success': '#2a2', 'warning': '#e80', 'notice': '#888', 'error': '#c22' };

const callAccess = rpc.declare({
	object: 'session',
	method: 'access',
	params: [ 'scope', 'object', 'function' ],
	expect: { access: false }
});

/* The kind of message, the state in one sentence, and what to do. */
function describe(status) {
	switch (status.state) {
	case 'open':
		return status.gate && status.gate.trouble
			? [ 'error', _('The gate has trouble: %s').format(status.gate.trouble), _('Status → System Log may show more.') ]
			: [ 'success', _('The gate is running and accepts knocks.'), '' ];

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
		? rows.map((cells) => E('tr', { 'class': 'tr', 'data-name': typeof cells[0] === 'string' ? cells[0] : null }, cells.map((cell, column) =>
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

			const verdicts = (status.gate || {}).counters || {};
			const changes = [ status.state, verdicts.accept, verdicts.close ].join();
			const more = changes === this.changes ? null : this.askMore();

			this.changes = changes;

			return Promise.resolve(more).then(() => ({ status: status, at: Date.now() }));
		}).catch((error) => ({ error: error }));
	},

	/* What seldom changes. */
	askMore: function() {
		const problem = (error) => [ error.message ];

		uci.unload('pkd');

		return Promise.all([
			users.run([ 'user', 'list', '--json' ]).then((text) => list(JSON.parse(text))).catch((error) => ({ problem: error.message })),
			users.run([ 'events' ]).then((text) => text.trim().split('\n').slice(-EVENTS).reverse()).catch(problem),
			users.run([ 'check' ]).then((text) => text.split('\n').filter((line) => line).map((line) =>
				line.replace(/^pkd: warning: /, ''))).catch(problem),
			L.resolveDefault(uci.load('pkd'))
		]).then(([ people, events, warnings ]) => Object.assign(this, { people, events, warnings }));
	},

	load: function() {
		return Promise.all([
			this.ask(),
			L.resolveDefault(callAccess('file', '/usr/sbin/pkd close *', 'exec'), false),
			/* Draws QR codes; without it, there are none. */
			L.resolveDefault(L.require('uqr'), null)
		]);
	},

	/* Shows what is so now, after something was changed. */
	refresh: function() {
		this.changes = null;

		return this.ask().then((next) => {
			this.show(next);

			const [ kind, sentence ] = next.error ? [ 'error', explain(next.error) ] : describe(next.status);

			return kind === 'success' ? '' : sentence;
		});
	},

	button: function(title, kind, click) {
		return E('button', { 'class': 'btn cbi-button cbi-button-' + kind, 'click': ui.createHandlerFn(this, click) }, [ title ]);
	},

	renderError: function(error) {
		return [
			E('div', { 'class': 'alert-message error', 'id': 'pkd-error' }, [ explain(error) ])
		];
	},

	renderGrants: function(gate, at) {
		const port = (grant) => {
			const service = list(gate.services).find((one) => one.name === grant.service) || {};
			const ports = L.toArray(service.ports).map(plain).join(', ') || plain(service.port);

			return '%s/%s'.format(ports, plain(service.protocol));
		};

		return section(_('Who is in'), table('pkd-grants',
			[ _('Service'), _('Port'), _('Address'), _('User'), _('Time left') ].concat(this.may ? '' : []),
			list(gate.grants).map((grant) => [
				plain(grant.service),
				port(grant),
				plain(grant.address),
				grant.user == null ? '–' : plain(grant.user),
				E('span', {
					'class': 'pkd-left',
					'data-ends': String(at + Number(grant.seconds_left) * 1000)
				}, [ grant.seconds_left == null ? _('no end') : duration(Number(grant.seconds_left)) ])
			].concat(this.may ? this.button(_('Close'), 'negative', () =>
				users.close(plain(grant.address), () => this.refresh())) : [])),
			_('Nobody: there was no valid knock recently.')));
	},

	renderUsers: function(gate) {
		const changed = () => this.refresh();
		const services = uci.sections('pkd', 'service').map((service) => service['.name']);
		const state = (name, text) => {
			const wait = (list(gate.users).find((user) => user.name === name) || {}).wait;

			return wait > 0 ? _('%s; accepts knocks in %s').format(text, duration(wait)) : text;
		};
		const newest = (name) => {
			const user = list(gate.users).find((one) => one.name === name) || {};

			return user.newest ? utc(user.newest) : _('none yet');
		};

		return section(_('Users'), E('div', {}, [
			this.people.problem ? E('p', { 'class': 'alert-message error' }, [ this.people.problem ]) : '',
			table('pkd-users',
				[ _('Name'), _('Opens'), _('State'), _('Newest knock') ].concat(this.may ? '' : []),
				list(this.people).map((user) => [
					plain(user.name),
					L.toArray(user.services).map(plain).join(', '),
					state(user.name, plain(user.state)),
					newest(user.name)
				].concat(this.may ? E('div', {}, [
					this.button(_('New key…'), 'action', () => users.rotate(user.name, this.uqr, changed)), ' ',
					this.button(_('Revoke…'), 'negative', () => users.revoke(user.name, changed))
				]) : [])),
				_('There are no users: nobody can knock.')),
			this.may ? this.button(_('Add user…'), 'add', () => users.add(services, this.uqr, changed)) : ''
		]));
	},

	renderEvents: function(status) {
		const rows = this.events.map((line) => line.match(/^(.{24}) (\S+) from (\S+) (.*)$/)).filter((parts) => parts);

		return section(_('Last knocks'), table('pkd-events', [ _('Time'), _('User'), _('Address'), '' ],
			rows.map((parts) => parts.slice(1)),
			status.mode === 'match' ? _('With mode match, the kernel keeps no record of them.') : _('There are none in the system log.')));
	},

	renderDetails: function(status, gate) {
		const counters = Object.assign({ 'limited': gate.limited }, gate.counters);

		return E('details', { 'id': 'pkd-details', 'open': this.open ? '' : null, 'toggle': (ev) => { this.open = ev.currentTarget.open; } }, [
			E('summary', {}, [ _('Details') ]),
			section(_('Received datagrams'), table('pkd-counters',
				[ _('Verdict'), _('Datagrams'), _('Meaning') ],
				COUNTERS.map((row) => [ row[1], plain(counters[row[0]]), row[2] ]), '')),
			section(_('Replay caches'), table('pkd-caches',
				[ _('Name'), _('Tag'), _('Format'), _('Window'), _('Knocks'), _('Floor') ],
				list(gate.users).map((user) => [
					plain(user.name),
					plain(user.tag),
					plain(user.format),
					'± %s s'.format(plain(user.window)),
					_('%s of %s').format(plain(user.knocks), plain(user.capacity)),
					utc(user.floor)
				]), _('There are none.'))),
			E('p', {}, [
				_('pkd %s, mode %s. Router’s clock: %s.').format(
					plain(status.version), plain(status.mode), utc(gate.now)) ])
		]);
	},

	renderStatus: function(status, at) {
		const [ kind, sentence, advice ] = describe(status);
		/* What pkdd or the kernel module reports; null while neither does. */
		const gate = status.gate || {};

		return [
			E('div', {
				'class': 'alert-message ' + kind,
				'id': 'pkd-state',
				'data-state': plain(status.state),
				'style': 'border-left:8px solid ' + COLOURS[kind]
			}, [
				E('strong', {}, [ sentence ]),
				advice ? E('div', {}, [ advice ]) : ''
			]),
			E('div', { 'id': 'pkd-warnings' }, this.warnings.map((warning) =>
				E('div', { 'class': 'alert-message warning' }, [ warning ]))),
			this.renderGrants(gate, at),
			this.renderUsers(gate),
			this.renderEvents(status),
			this.renderDetails(status, gate)
		];
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

			if (!isNaN(left))
				dom.content(node, [ left > 0 ? duration(left) : _('closed') ]);
		});
	},

	render: function([ answer, may, uqr ]) {
		this.may = may;
		this.uqr = uqr;
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
