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

/* --- validators: each returns true, or one sentence that names the invalid part --- */

function wholeNumber(text, min, max) {
	return /^(0|[1-9][0-9]{0,8})$/.test(text) && Number(text) >= min && Number(text) <= max;
}

function checkPort(text) {
	return wholeNumber(text, 1, 65535) || _('Invalid port “%s”: expected 1–65535.').format(text);
}

function checkKnockPort(text) {
	return text === 'any' || wholeNumber(text, 1, 65535) ||
		_('Invalid port “%s”: expected 1–65535, or any.').format(text);
}

function checkSeconds(text) {
	return wholeNumber(text, 1, 86400) ||
		_('Invalid number of seconds “%s”: expected 1–86400.').format(text);
}

function checkMark(text) {
	if (!/^0x[0-9a-fA-F]{1,8}$/.test(text))
		return _('Invalid mask “%s”: expected 0x and 1 to 8 hexadecimal digits.').format(text);

	const bits = Number(text).toString(2);
	const run = bits.replace(/0+$/, '');

	if (run !== '' && !/^1+$/.test(run))
		return _('Invalid mask “%s”: its bits are not adjacent; expected 2 to 8 adjacent bits.').format(text);

	if (run.length < 2 || run.length > 8)
		return _('Invalid mask “%s”: expected 2 to 8 adjacent bits, found %d.').format(text, run.length);

	return true;
}

/* A tag's 4 bytes as 8 digits, or null. The same tag can be written as text and as hexadecimal; missing bytes are zero. */
function tagBytes(text) {
	if (checkTag(text) !== true)
		return null;

	const digits = text.startsWith('0x')
		? text.substring(2).toLowerCase()
		: Array.from(new TextEncoder().encode(text), (byte) => byte.toString(16).padStart(2, '0')).join('');

	return digits.padEnd(8, '0');
}

function checkTag(text) {
	if (text === '')
		return _('Missing tag: enter 1 to 4 bytes of text, or 0x and hexadecimal digits.');

	if (text.startsWith('0x')) {
		const digits = text.substring(2);
		const wrong = digits.match(/[^0-9a-fA-F]/u);

		if (digits === '')
			return _('Invalid tag “0x”: expected hexadecimal digits after 0x.');

		if (wrong)
			return _('Invalid tag “%s”: “%s” is not a hexadecimal digit.').format(text, wrong[0]);

		return digits.length <= 8 || _('Invalid tag “%s”: expected at most 8 hexadecimal digits.').format(text);
	}

	const bytes = new TextEncoder().encode(text).length;

	return bytes <= 4 || _('Invalid tag “%s”: expected at most 4 bytes, found %d.').format(text, bytes);
}

function checkUserTag(section_id, text) {
	const result = checkTag(text);

	if (result !== true)
		return result;

	const twin = uci.sections('pkd', 'user').find((user) =>
		user['.name'] !== section_id && tagBytes(String(user.tag || '')) === tagBytes(text));

	return !twin || _('Tag “%s” is already used by user “%s”.').format(text, twin['.name']);
}

function checkDate(text) {
	if (text === '')
		return true;

	const parts = text.match(/^([0-9]{4})-([0-9]{2})-([0-9]{2})$/);

	if (!parts)
		return _('Invalid date “%s”: expected year-month-day, such as 2027-12-31.').format(text);

	const [ year, month, day ] = parts.slice(1).map(Number);
	const date = new Date(Date.UTC(year, month - 1, day));

	return (year >= 1970 && date.getUTCMonth() === month - 1 && date.getUTCDate() === day) ||
		_('Invalid date “%s”: there is no such day.').format(text);
}

function checkKeyFile(text) {
	return text === '' || /^\/[^\s'"\\]{1,254}$/.test(text) ||
		_('Invalid path “%s”: expected an absolute path of at most 255 characters without spaces, quotes or backslashes.').format(text);
}

function checkServiceName(text) {
	return uci.sections('pkd', 'service').some((service) => service['.name'] === text) ||
		_('Unknown service “%s”.').format(text);
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

/* LuCI validates a field only once it was touched. This validates every value on saving: stored values, defaults and
 * list items too. LuCI copies options into its dialogs, so the functions must use `this` and not the option `o`. */
function validateOnSave(o, check) {
	const parse = o.parse;

	o.validate = function(section_id, value) {
		return firstError(this, section_id, value, check) || true;
	};

	o.parse = function(section_id) {
		const invalid = this.isActive(section_id)
			? firstError(this, section_id, this.formvalue(section_id), check)
			: null;

		if (invalid) {
			markInvalid(this, section_id, invalid);

			return Promise.reject(new TypeError('%s: %s'.format(this.title, invalid)));
		}

		return parse.call(this, section_id);
	};

	return o;
}

function firstError(o, section_id, value, check) {
	/* LuCI passes the choices of a MultiValue as one string. */
	const values = (o instanceof form.MultiValue) ? L.toArray(value) : [].concat(value == null ? '' : value);

	for (const one of values) {
		if (one === '' && (o.optional || o.rmempty))
			continue;

		const result = check(section_id, one);

		if (result !== true)
			return result;
	}

	return null;
}

function markInvalid(o, section_id, message) {
	const element = o.getUIElement(section_id);

	if (!element)
		return;

	const field = element.node.querySelector('input[type="text"], select') || element.node;

	field.classList.add('cbi-input-invalid');
	field.setAttribute('data-tooltip', message);
	field.setAttribute('data-tooltip-style', 'error');
}

function ignoringSection(check) {
	return (section_id, value) => check(value);
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
		validateOnSave(o, ignoringSection(checkKnockPort));

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
		validateOnSave(o, ignoringSection(checkMark));
	},

	addServices: function(m) {
		const s = m.section(form.GridSection, 'service', _('Services'),
			_('Ports that a knock opens for the address it came from.'));
		let o;

		s.addremove = true;
		s.nodescriptions = true;
		s.addbtntitle = _('Add service');
		s.modaltitle = (section_id) => _('Service %s').format(section_id);

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
		validateOnSave(o, ignoringSection(checkPort));

		o = s.option(form.Value, 'seconds', _('Seconds open'),
			_('How long new connections may start after a knock. Established connections stay open.'));
		o.default = '30';
		o.rmempty = false;
		validateOnSave(o, ignoringSection(checkSeconds));

		o = s.option(form.DynamicList, 'tag', _('Only for tags'),
			_('Only users with one of these tags may open this service. If empty, all users who list the service may.'));
		o.textvalue = function(section_id) {
			const tags = L.toArray(this.cfgvalue(section_id));

			return E('span', {}, [ tags.length ? tags.join(', ') : _('all users') ]);
		};
		validateOnSave(o, ignoringSection(checkTag));
	},

	addUsers: function(m, uqr) {
		const s = m.section(form.GridSection, 'user', _('Users'),
			_('Who may knock. A new user needs a tag, a service and a key: save the user first, then make the key.'));
		let o;

		s.addremove = true;
		s.nodescriptions = true;
		s.addbtntitle = _('Add user');
		s.modaltitle = (section_id) => _('User %s').format(section_id);

		s.handleAdd = function(ev, name) {
			const result = checkSectionName(name, 32);

			if (result !== true)
				return notify(result, 'error');

			return form.GridSection.prototype.handleAdd.call(this, ev, name);
		};

		o = s.option(form.Flag, 'enabled', _('Enabled'));
		o.default = '1';

		o = s.option(form.Value, 'tag', _('Tag'),
			_('1 to 4 bytes of text, or 0x and hexadecimal digits. It is sent unencrypted, and each user needs a different one.'));
		o.rmempty = false;
		validateOnSave(o, checkUserTag);

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
		validateOnSave(o, ignoringSection(checkServiceName));

		o = s.option(form.Value, 'window', _('Window'),
			_('How many seconds the clock of the computer that knocks may differ from the router’s.'));
		o.default = '10';
		o.rmempty = false;
		validateOnSave(o, ignoringSection(checkSeconds));

		o = s.option(form.Value, 'expires', _('Expires'),
			_('Last day (UTC) on which this user’s knocks are accepted, as year-month-day. If empty, the user never expires.'));
		o.placeholder = '2027-12-31';
		o.textvalue = function(section_id) {
			return E('span', {}, [ this.cfgvalue(section_id) || _('never') ]);
		};
		validateOnSave(o, ignoringSection(checkDate));

		o = s.option(form.Value, 'key_file', _('Key file'),
			_('Where the router stores the key. LuCI can write keys to %s but cannot read them.').format(KEY_FOLDER));
		o.modalonly = true;
		o.load = function(section_id) {
			this.placeholder = KEY_FOLDER + section_id + '.key';

			return form.Value.prototype.load.call(this, section_id);
		};
		validateOnSave(o, ignoringSection(checkKeyFile));

		o = s.option(form.Button, '_make', _('Key'));
		o.editable = true;
		o.modalonly = false;
		o.inputtitle = _('Make key…');
		o.inputstyle = 'action';
		o.write = o.remove = function() {};
		o.onclick = (ev, section_id) => this.makeKey(section_id, uqr);
	},

	/* Shows a new key once, and writes it on request. */
	makeKey: function(name, uqr) {
		const tag = String(uci.get('pkd', name, 'tag') || '');
		const port = String(uci.get('pkd', 'gate', 'port') || 'any');
		const path = KEY_FOLDER + name + '.key';

		if (checkTag(tag) !== true || checkKnockPort(port) !== true)
			return notify(_('Cannot make a key for “%s”: save a valid tag and a valid knock port first.').format(name), 'error');

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

		this.warning = E('div', { 'class': 'alert-message warning', 'id': 'pkd-legacy' });
		this.warn();

		return m.render().then((nodes) => E('div', {}, [ this.warning, nodes ]));
	}
});
