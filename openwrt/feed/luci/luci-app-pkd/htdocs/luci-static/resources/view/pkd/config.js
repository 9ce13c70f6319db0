'use strict';
'require view';
'require form';
'require uci';
'require fs';
'require ui';
'require dom';

/* A key leaves this page in two ways: as a file that LuCI may write but not read, and on the screen, once. It never goes
 * into UCI, which every login with access to this page can read. */

const KEY_FOLDER = '/etc/pkd/keys/';
const KEY_BYTES = 32;
const KEY_MODE = 0o600;

/* --- the check of the whole configuration: pkdd's own, so that the page and the service never disagree --- */

/* The sections as `uci export` prints them. No key is among them: the check needs to know only that there is one. */
function exported(sections) {
	const quote = (value) => "'" + String(value).replace(/'/g, "'\\''") + "'";
	const lines = [ 'package pkd' ];

	for (const section of sections) {
		lines.push('config %s %s'.format(section['.type'], quote(section['.name'])));

		for (const name of Object.keys(section).filter((name) => !name.startsWith('.')))
			for (const value of [].concat(section[name]))
				lines.push('\tlist %s %s'.format(name, quote(name === 'key' ? 'hidden' : value)));
	}

	return lines.join('\n') + '\n';
}

/* Resolves to null, or to the first problem: its section and option, which may be missing, and a message. */
function findProblem(sections) {
	return fs.exec_direct('/usr/sbin/pkd', [ 'check', '--json', exported(sections) ], 'json').then((answer) => {
		if (answer === null || typeof answer !== 'object')
			throw new TypeError(_('no answer'));

		return answer.ok === true ? null : answer.error;
	}).catch((error) => {
		throw new Error(_('Cannot check the configuration with “pkd check”: %s.').format(explain(error)));
	});
}

/* One section with the least that it needs around it: problems elsewhere do not concern a dialog. */
function alone(name) {
	const section = Object.assign({}, uci.get('pkd', name), { '.name': name });
	const services = uci.sections('pkd', 'service').map((service, index) =>
		({ '.type': 'service', '.name': service['.name'], port: index + 1 }));

	return [ { '.type': 'gate', '.name': 'gate', zone: 'any' } ]
		.concat(section['.type'] === 'user' ? services : [], section);
}

/* Has a map checked before it is saved. `only`: the section of a dialog. */
function checkOnSave(map, only) {
	const save = map.save;

	map.save = function(callback, silent) {
		/* A silent save of the page itself only removes a section. */
		if (silent && only == null)
			return save.call(this, callback, silent);

		const before = uci.sections('pkd').map((section) => Object.assign({}, section));

		return save.call(this, () => Promise.resolve(callback ? callback() : null).then(() => {
			return findProblem(only == null ? uci.sections('pkd') : alone(only));
		}).then((problem) => {
			if (!problem)
				return;

			markInvalid(this, problem);
			restore(before);

			throw new Error(problem.section != null ? '%s: %s'.format(problem.section, problem.message) : problem.message);
		}), silent);
	};
}

/* Takes back what the form has written: a dialog that is dismissed must leave nothing for the page to save. */
function restore(before) {
	for (const section of before) {
		const name = section['.name'];
		const now = uci.get('pkd', name) || {};

		for (const option of new Set(Object.keys(section).concat(Object.keys(now))))
			if (!option.startsWith('.') && String(section[option]) !== String(now[option]))
				section[option] == null ? uci.unset('pkd', name, option) : uci.set('pkd', name, option, section[option]);
	}
}

/* Shows the message beside the field, which is in a dialog or on the page. */
function markInvalid(map, problem) {
	for (const section of map.children)
		for (const option of section.children.filter((option) => option.option === problem.option)) {
			const element = option.getUIElement(problem.section);

			if (!element)
				continue;

			const field = element.node.querySelector('input[type="text"], select') || element.node;

			field.classList.add('cbi-input-invalid');
			field.setAttribute('data-tooltip', problem.message);
			field.setAttribute('data-tooltip-style', 'error');
		}
}

/* Sections of all types share one namespace. */
function checkSectionName(text, maxLength) {
	const wrong = text.match(/[^A-Za-z0-9_]/u);

	if (text === '')
		return _('Enter a name.');

	if (wrong)
		return _('Invalid name “%s”: “%s” is not allowed; use letters, digits and _.').format(text, wrong[0]);

	if (text.length > maxLength)
		return _('Invalid name “%s”: expected at most %d characters, found %d.').format(text, maxLength, text.length);

	return uci.get('pkd', text) == null ||
		_('Name “%s” is already in use: the gate, services and users need different names.').format(text);
}

/* --- the command for the computer that knocks --- */

function quoted(word) {
	return /^[A-Za-z0-9_.:\/%@+=,-]+$/.test(word) ? word : "'" + word.replace(/'/g, "'\\''") + "'";
}

/* A value that begins with a hyphen would be parsed as the next option. */
function option(name, value) {
	return value.startsWith('-') ? quoted(name + '=' + value) : name + ' ' + quoted(value);
}

function checkHost(text) {
	return /^[A-Za-z0-9_:][A-Za-z0-9_.:%-]*$/.test(text) ||
		_('Invalid host “%s”: expected the router’s name or address.').format(text);
}

function clientLine(key, name, tag, port, host) {
	const file = name + '.key';
	const words = [ 'knock', option('--key-file', file), option('--tag', tag) ];

	if (port !== 'any')
		words.push(option('--port', port));

	words.push(quoted(host));

	return '(umask 077; echo %s > %s) && %s'.format(key, quoted(file), words.join(' '));
}

function randomKey() {
	const bytes = new Uint8Array(KEY_BYTES);

	window.crypto.getRandomValues(bytes);

	return '0x' + Array.from(bytes, (byte) => byte.toString(16).padStart(2, '0')).join('');
}

/* From rpcd, or from the web server in front of it. */
function denied(error) {
	return error.name === 'PermissionError' || /access denied|permission denied/i.test(error.message);
}

function explain(error) {
	return denied(error)
		? _('permission denied: this login needs write access (group luci-app-pkd)')
		: error.message;
}

function notify(text, kind) {
	ui.addNotification(null, E('p', {}, [ text ]), kind);
}

/* ZoneSelect also reads the networks. For a login without that right, the page lists the zones by name instead. */
function loadZones() {
	return Promise.all([
		L.require('tools.widgets'),
		L.require('firewall').then((firewall) => firewall.getZones()),
		L.require('network').then((network) => network.getNetworks())
	]).then(([ widgets ]) => ({ widgets: widgets })).catch(() =>
		L.resolveDefault(uci.load('firewall')).then(() => ({
			names: uci.sections('firewall', 'zone').map((zone) => zone.name).filter((name) => name)
		})));
}

return view.extend({
	load: function() {
		/* uqr draws the QR codes; without it, only the command is shown. */
		return uci.load('pkd').then(() => Promise.all([
			loadZones(),
			L.resolveDefault(L.require('uqr'), null)
		])).catch((error) => ({ error: error }));
	},

	addGate: function(m, zones) {
		const s = m.section(form.NamedSection, 'gate', 'gate', _('Gate'));
		let o;

		s.tab('general', _('General'));
		s.tab('advanced', _('Advanced'));

		o = s.taboption('general', form.Flag, 'enabled', _('Enabled'),
			_('If disabled, knocks are ignored and pkd does not change the firewall.'));
		o.rmempty = false;

		o = s.taboption('general', form.Value, 'port', _('Knock port'),
			_('UDP port to knock at, or any to accept knocks at every port.'));
		o.default = 'any';
		o.rmempty = false;

		if (zones.widgets) {
			o = s.taboption('general', zones.widgets.ZoneSelect, 'zone', _('Source zone'),
				_('Firewall zone that knocks come from.'));
			o.nocreate = true;
			o.allowany = true;
		}
		else {
			o = s.taboption('general', form.ListValue, 'zone', _('Source zone'),
				_('Firewall zone that knocks come from.'));
			o.value('*', _('Any zone'));

			const stored = uci.get('pkd', 'gate', 'zone');
			const names = new Set(zones.names.concat(stored && stored !== 'any' ? stored : 'wan'));

			names.forEach((name) => o.value(name, name));
		}

		/* The widget uses * where UCI has any. */
		const load = o.load;

		o.load = function(section_id) {
			return Promise.resolve(load.call(this, section_id)).then((zone) => zone === 'any' ? '*' : zone);
		};
		o.write = function(section_id, zone) {
			return uci.set('pkd', section_id, 'zone', zone === '*' ? 'any' : zone);
		};
		o.default = 'wan';
		o.rmempty = false;

		o = s.taboption('general', form.ListValue, 'clock', _('Clock'),
			_('A knock contains the time. The clock of a router without a battery is wrong after a boot, until NTP has set it.'));
		o.value('ntp', _('ntp: ignore knocks until NTP has set the clock'));
		o.value('trust', _('trust: the clock is correct after a boot'));
		o.default = 'ntp';
		o.rmempty = false;

		o = s.taboption('advanced', form.ListValue, 'mode', _('Checked by'));
		o.value('match', _('match: the kernel module xt_pkd'));
		o.value('nft', _('nft: the daemon pkdd'));
		o.default = 'match';
		o.rmempty = false;

		o = s.taboption('advanced', form.Value, 'mark', _('Packet mark'),
			_('Packet mark bits for pkd: a mask of 2 to 8 adjacent bits that no other program, such as mwan3 or pbr, uses.'));
		o.default = '0x00ff0000';
		o.rmempty = false;
	},

	addServices: function(m) {
		const s = m.section(form.GridSection, 'service', _('Services'),
			_('Ports that a knock opens for the address it came from.'));
		let o;

		s.addremove = true;
		s.nodescriptions = true;
		s.addbtntitle = _('Add service');
		s.modaltitle = (section_id) => _('Service %s').format(section_id);
		s.addModalOptions = (dialog, section_id) => checkOnSave(dialog.map, section_id);

		s.handleAdd = function(ev, name) {
			const result = checkSectionName(name, 16);

			if (result !== true)
				return notify(result, 'error');

			return form.GridSection.prototype.handleAdd.call(this, ev, name);
		};

		s.handleRemove = function(section_id, ev) {
			const users = uci.sections('pkd', 'user').filter((user) => L.toArray(user.service).includes(section_id));

			if (users.length)
				return notify(_('Cannot delete service “%s”: remove it from %s first.').format(
					section_id, users.map((user) => '“' + user['.name'] + '”').join(', ')), 'error');

			return form.GridSection.prototype.handleRemove.call(this, section_id, ev);
		};

		o = s.option(form.ListValue, 'protocol', _('Protocol'));
		o.value('tcp', 'TCP');
		o.value('udp', 'UDP');
		o.default = 'tcp';
		o.rmempty = false;

		o = s.option(form.Value, 'port', _('Port'));
		o.rmempty = false;

		o = s.option(form.Value, 'seconds', _('Seconds open'),
			_('How long new connections may start after a knock. Established connections stay open.'));
		o.default = '30';
		o.rmempty = false;

		o = s.option(form.DynamicList, 'tag', _('Only for tags'),
			_('Only users with one of these tags may open this service. If empty, all users who list the service may.'));
		o.textvalue = function(section_id) {
			const tags = L.toArray(this.cfgvalue(section_id));

			return E('span', {}, [ tags.length ? tags.join(', ') : _('all users') ]);
		};
	},

	addUsers: function(m, uqr) {
		const s = m.section(form.GridSection, 'user', _('Users'),
			_('Who may knock. A new user needs a tag, a service and a key: save the user first, then make the key.'));
		let o;

		s.addremove = true;
		s.nodescriptions = true;
		s.addbtntitle = _('Add user');
		s.modaltitle = (section_id) => _('User %s').format(section_id);
		s.addModalOptions = (dialog, section_id) => checkOnSave(dialog.map, section_id);

		s.handleAdd = function(ev, name) {
			const result = checkSectionName(name, 32);

			if (result !== true)
				return notify(result, 'error');

			return form.GridSection.prototype.handleAdd.call(this, ev, name);
		};

		o = s.option(form.Flag, 'enabled', _('Enabled'));
		o.default = '1';

		o = s.option(form.Value, 'tag', _('Tag'),
			_('1 to 4 bytes of text, or 0x and hexadecimal digits. It is sent unencrypted, and with mode match each user needs a different one.'));
		o.rmempty = false;

		o = s.option(form.MultiValue, 'service', _('Opens'),
			_('Services that this user’s knocks open.'));
		o.load = function(section_id) {
			const stored = L.toArray(uci.get('pkd', section_id, 'service'));
			const known = uci.sections('pkd', 'service').map((service) => service['.name']);

			this.keylist = [];
			this.vallist = [];
			known.forEach((name) => this.value(name, E('span', {}, [ name ])));
			stored.filter((name) => !known.includes(name)).forEach((name) =>
				this.value(name, E('em', {}, [ _('%s (no such service)').format(name) ])));

			return stored;
		};

		o = s.option(form.Value, 'window', _('Window'),
			_('How many seconds the clock of the computer that knocks may differ from the router’s.'));
		o.default = '10';
		o.rmempty = false;

		o = s.option(form.Value, 'expires', _('Expires'),
			_('Last day (UTC) on which this user’s knocks are accepted, as year-month-day. If empty, the user never expires.'));
		o.placeholder = '2027-12-31';
		o.textvalue = function(section_id) {
			return E('span', {}, [ this.cfgvalue(section_id) || _('never') ]);
		};

		o = s.option(form.Value, 'key_file', _('Key file'),
			_('Where the router stores the key. LuCI can write keys to %s but cannot read them.').format(KEY_FOLDER));
		o.modalonly = true;
		o.load = function(section_id) {
			this.placeholder = KEY_FOLDER + section_id + '.key';

			return form.Value.prototype.load.call(this, section_id);
		};

		o = s.option(form.Button, '_make', _('Key'));
		o.editable = true;
		o.modalonly = false;
		o.inputtitle = _('Make key…');
		o.inputstyle = 'action';
		o.write = o.remove = function() {};
		o.onclick = (ev, section_id) => this.makeKey(section_id, uqr);
	},

	/* The command with the key needs a valid tag and port. */
	makeKey: function(name, uqr) {
		const tag = String(uci.get('pkd', name, 'tag') || '');
		const port = String(uci.get('pkd', 'gate', 'port') || 'any');
		const path = KEY_FOLDER + name + '.key';

		const sections = uci.sections('pkd')
			.filter((section) => section['.type'] !== 'user' || section['.name'] === name)
			/* A new key replaces whatever is wrong with the old one. */
			.map((section) => Object.assign({}, section, { key: [], key_file: [] }));

		return findProblem(sections).then((problem) => {
			if (problem)
				throw new Error('%s: %s'.format(problem.section || 'pkd', problem.message));

			this.showKey(name, tag, port, path, uqr);
		}).catch((error) => notify(_('Cannot make a key for “%s”: %s').format(name, error.message), 'error'));
	},

	/* Shows a new key once, and writes it on request. */
	showKey: function(name, tag, port, path, uqr) {
		const key = randomKey();
		const host = E('input', {
			'type': 'text',
			'class': 'cbi-input-text',
			'id': 'pkd-key-host',
			'value': window.location.hostname.replace(/^\[|\]$/g, '')
		});
		const line = E('pre', { 'id': 'pkd-key-line', 'style': 'white-space:pre-wrap;overflow-wrap:anywhere;user-select:all' });
		const code = E('div', { 'id': 'pkd-key-qr', 'style': 'background:#fff;width:320px;max-width:100%' });
		const errorBox = E('div', { 'class': 'alert-message error', 'id': 'pkd-key-error', 'style': 'display:none' });

		const showError = (text) => {
			dom.content(errorBox, [ text ]);
			errorBox.style.display = text ? '' : 'none';
		};

		const draw = () => {
			const result = checkHost(host.value);

			showError(result === true ? '' : result);
			host.classList.toggle('cbi-input-invalid', result !== true);

			const text = result === true ? clientLine(key, name, tag, port, host.value) : '';

			dom.content(line, [ text ]);
			dom.content(code, []);
			write.disabled = !text;

			if (uqr && text) {
				/* The SVG contains only numbers, no user input. QR readers need the border of four modules. */
				code.innerHTML = uqr.renderSVG(text, { pixelSize: 4, border: 4 });

				const svg = code.querySelector('svg');

				if (!svg.hasAttribute('viewBox'))
					svg.setAttribute('viewBox', '0 0 %s %s'.format(svg.getAttribute('width'), svg.getAttribute('height')));

				svg.setAttribute('style', 'display:block;width:100%;height:auto');
			}
		};

		const close = () => {
			dom.content(line, []);
			dom.content(code, []);
			ui.hideModal();
		};

		const write = E('button', {
			'class': 'btn cbi-button cbi-button-positive important',
			'id': 'pkd-key-write',
			'click': ui.createHandlerFn(this, () => this.writeKey(name, path, key).then(close, (error) =>
				showError(error.message)))
		}, [ _('Write key') ]);

		host.addEventListener('input', draw);
		draw();

		ui.showModal(_('Key for %s').format(name), [
			E('p', {}, [
				_('Run this command on the computer that knocks, or scan the QR code. The key is shown only once: LuCI cannot read it back.')
			]),
			E('div', { 'class': 'cbi-value' }, [
				E('label', { 'class': 'cbi-value-title', 'for': 'pkd-key-host' }, [ _('The router’s name or address') ]),
				E('div', { 'class': 'cbi-value-field' }, [ host ])
			]),
			line,
			code,
			E('p', {}, [
				_('“Write key” saves the key to %s. An existing key there is replaced and stops working. “Cancel” changes nothing.').format(path)
			]),
			errorBox,
			E('div', { 'class': 'right' }, [
				E('button', {
					'class': 'btn cbi-button',
					'id': 'pkd-key-cancel',
					'click': close
				}, [ _('Cancel') ]),
				' ',
				write
			])
		]);
	},

	writeKey: function(name, path, key) {
		return fs.write(path, key + '\n', KEY_MODE).catch((error) => {
			throw new Error(_('Cannot write the key: %s.').format(explain(error)));
		}).then(() => {
			uci.set('pkd', name, 'key_file', path);
			uci.unset('pkd', name, 'key');

			return uci.save().catch((error) => {
				throw new Error(_('The key was written to %s, but cannot be added to the configuration: %s.').format(path, explain(error)));
			});
		}).then(() => {
			this.warn();

			/* If the configuration did not change, Save & Apply alone would leave the old key in use. */
			return fs.exec_direct('/etc/init.d/pkd', [ 'reload' ], 'text').then(() =>
				notify(_('The key of “%s” was written. If changes are pending, choose Save & Apply.').format(name), 'info')
			).catch((error) =>
				notify(_('The key of “%s” was written, but pkd could not be reloaded: %s. Run “service pkd reload” on the router.').format(
					name, explain(error)), 'warning'));
		});
	},

	/* Warns of keys that are stored in UCI itself. */
	warn: function() {
		const names = uci.sections('pkd', 'user').filter((user) => user.key != null).map((user) => '“' + user['.name'] + '”');

		this.warning.style.display = names.length ? '' : 'none';
		dom.content(this.warning, [
			_('The key of %s is stored in the configuration, where every program with ubus access to it can read it. Make a new key: it is written to a file, and the old one is removed from the configuration.').format(names.join(', '))
		]);
	},

	render: function(data) {
		if (!data.error && uci.get('pkd', 'gate') == null)
			data.error = new Error(_('/etc/config/pkd has no section “gate”: reinstall the package pkd.'));

		if (data.error)
			return E('div', {}, [
				E('h2', {}, [ _('Port knocking') ]),
				E('div', { 'class': 'alert-message error', 'id': 'pkd-error' }, [
					denied(data.error)
						? _('This login may not read pkd’s configuration: it needs the access group luci-app-pkd.')
						: _('Cannot read pkd’s configuration: %s').format(data.error.message)
				])
			]);

		const [ zones, uqr ] = data;
		const m = new form.Map('pkd', _('Port knocking'),
			_('pkd keeps ports closed, and opens them only to an address that has just sent a valid knock.'));

		this.addGate(m, zones);
		this.addServices(m);
		this.addUsers(m, uqr);
		checkOnSave(m, null);

		this.warning = E('div', { 'class': 'alert-message warning', 'id': 'pkd-legacy' });
		this.warn();

		return m.render().then((nodes) => E('div', {}, [ this.warning, nodes ]));
	}
});
