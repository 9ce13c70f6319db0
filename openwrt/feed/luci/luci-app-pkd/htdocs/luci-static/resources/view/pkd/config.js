'use strict';
'require view';
'require form';
'require uci';
'require fs';
'require ui';
'require dom';

/* A key leaves this page twice: as a file that LuCI may write and never read, and on the screen, once. Nothing of it goes
 * into UCI, which everybody with a LuCI login of this page can read. */

const KEY_FOLDER = '/etc/pkd/keys/';
const KEY_BYTES = 32;
const KEY_MODE = 0o600;

/* --- what a value has to look like: true, or one sentence that names the bad part --- */

function wholeNumber(text, least, greatest) {
	return /^(0|[1-9][0-9]{0,8})$/.test(text) && Number(text) >= least && Number(text) <= greatest;
}

function checkPort(text) {
	return wholeNumber(text, 1, 65535) || _('“%s” is no port: a port is a number from 1 to 65535.').format(text);
}

function checkKnockPort(text) {
	return text === 'any' || wholeNumber(text, 1, 65535) ||
		_('“%s” is no port: write a number from 1 to 65535, or any.').format(text);
}

function checkSeconds(text) {
	return wholeNumber(text, 1, 86400) ||
		_('“%s” is no number of seconds: write a number from 1 to 86400, which is a day.').format(text);
}

function checkMark(text) {
	if (!/^0x[0-9a-fA-F]{1,8}$/.test(text))
		return _('“%s” is no mask: write 0x and up to 8 hexadecimal digits.').format(text);

	const bits = Number(text).toString(2);
	const run = bits.replace(/0+$/, '');

	if (run !== '' && !/^1+$/.test(run))
		return _('The bits of “%s” do not lie side by side: a mask is one run of 2 to 8 bits.').format(text);

	if (run.length < 2 || run.length > 8)
		return _('“%s” has %d bits: a mask is one run of 2 to 8 bits.').format(text, run.length);

	return true;
}

/* The 4 bytes of a tag as 8 digits, or null. Text and 0x may mean the same tag; missing bytes are zero. */
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
		return _('The tag is missing: write 1 to 4 bytes of text, or 0x and hexadecimal.');

	if (text.startsWith('0x')) {
		const digits = text.substring(2);
		const wrong = digits.match(/[^0-9a-fA-F]/u);

		if (digits === '')
			return _('“0x” says that hexadecimal follows, but nothing does.');

		if (wrong)
			return _('“%s” in “%s” is no hexadecimal digit.').format(wrong[0], text);

		return digits.length <= 8 || _('“%s” has more than 8 digits: a tag has 4 bytes.').format(text);
	}

	const bytes = new TextEncoder().encode(text).length;

	return bytes <= 4 || _('“%s” has %d bytes: a tag has at most 4.').format(text, bytes);
}

function checkUserTag(section_id, text) {
	const right = checkTag(text);

	if (right !== true)
		return right;

	const twin = uci.sections('pkd', 'user').find((user) =>
		user['.name'] !== section_id && tagBytes(String(user.tag || '')) === tagBytes(text));

	return !twin || _('The tag “%s” is that of the user “%s” already.').format(text, twin['.name']);
}

function checkDate(text) {
	if (text === '')
		return true;

	const parts = text.match(/^([0-9]{4})-([0-9]{2})-([0-9]{2})$/);

	if (!parts)
		return _('“%s” is no date: write year-month-day, as in 2027-12-31.').format(text);

	const [ year, month, day ] = parts.slice(1).map(Number);
	const date = new Date(Date.UTC(year, month - 1, day));

	return (year >= 1970 && date.getUTCMonth() === month - 1 && date.getUTCDate() === day) ||
		_('There is no day “%s”.').format(text);
}

function checkKeyFile(text) {
	return text === '' || /^\/[^\s'"\\]{1,254}$/.test(text) ||
		_('“%s” is no path: write an absolute one without spaces and quotes, of at most 255 characters.').format(text);
}

function checkServiceName(text) {
	return uci.sections('pkd', 'service').some((service) => service['.name'] === text) ||
		_('There is no service “%s”.').format(text);
}

/* Sections of all kinds share one set of names. */
function checkSectionName(text, longest) {
	const wrong = text.match(/[^A-Za-z0-9_]/u);

	if (text === '')
		return _('The name is missing.');

	if (wrong)
		return _('“%s” in the name “%s” cannot be: names have letters, digits and _.').format(wrong[0], text);

	if (text.length > longest)
		return _('The name “%s” has %d characters: at most %d can be.').format(text, text.length, longest);

	return uci.get('pkd', text) == null ||
		_('The name “%s” is taken: the gate, services and users all need different ones.').format(text);
}

/* --- the line for the computer that knocks --- */

function quoted(word) {
	return /^[A-Za-z0-9_.:\/%@+=,-]+$/.test(word) ? word : "'" + word.replace(/'/g, "'\\''") + "'";
}

/* An option's value that begins with a hyphen would be read as the next option. */
function option(name, value) {
	return value.startsWith('-') ? quoted(name + '=' + value) : name + ' ' + quoted(value);
}

function checkHost(text) {
	return /^[A-Za-z0-9_:][A-Za-z0-9_.:%-]*$/.test(text) ||
		_('“%s” is no name or address of this router.').format(text);
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

/* Of rpcd, or of the web server before it. */
function denied(error) {
	return error.name === 'PermissionError' || /access denied|permission denied/i.test(error.message);
}

function explain(error) {
	return denied(error)
		? _('permission denied; this login lacks write access of the group luci-app-pkd')
		: error.message;
}

function notify(text, kind) {
	ui.addNotification(null, E('p', {}, [ text ]), kind);
}

/* LuCI looks at a field only once somebody has touched it. Here every value is looked at again when it is saved: what was
 * there before, defaults, and the elements of lists too. LuCI copies options into its dialogs, so nothing here may hold on
 * to the option itself. */
function watch(o, check) {
	const parse = o.parse;

	o.validate = function(section_id, value) {
		return firstFault(this, section_id, value, check) || true;
	};

	o.parse = function(section_id) {
		const fault = this.isActive(section_id)
			? firstFault(this, section_id, this.formvalue(section_id), check)
			: null;

		if (fault) {
			flag(this, section_id, fault);

			return Promise.reject(new TypeError('%s: %s'.format(this.title, fault)));
		}

		return parse.call(this, section_id);
	};

	return o;
}

function firstFault(o, section_id, value, check) {
	/* LuCI hands over the choices of a MultiValue as one text. */
	const values = (o instanceof form.MultiValue) ? L.toArray(value) : [].concat(value == null ? '' : value);

	for (const one of values) {
		if (one === '' && (o.optional || o.rmempty))
			continue;

		const right = check(section_id, one);

		if (right !== true)
			return right;
	}

	return null;
}

function flag(o, section_id, fault) {
	const element = o.getUIElement(section_id);

	if (!element)
		return;

	const field = element.node.querySelector('input[type="text"], select') || element.node;

	field.classList.add('cbi-input-invalid');
	field.setAttribute('data-tooltip', fault);
	field.setAttribute('data-tooltip-style', 'error');
}

function ignoringSection(check) {
	return (section_id, value) => check(value);
}

/* ZoneSelect reads the networks as well, which a login with few rights may not: then the names of the zones have to do. */
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
		/* uqr draws the QR codes; a LuCI without it shows the line alone. */
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
			_('Off: no knock counts, and pkd changes nothing in the firewall.'));
		o.rmempty = false;

		o = s.taboption('general', form.Value, 'port', _('Knock at'),
			_('The UDP port that is knocked at, or any: then knocks count at every port.'));
		o.default = 'any';
		o.rmempty = false;
		watch(o, ignoringSection(checkKnockPort));

		if (zones.widgets) {
			o = s.taboption('general', zones.widgets.ZoneSelect, 'zone', _('Knocks come from'),
				_('The firewall zone on whose side people knock.'));
			o.nocreate = true;
			o.allowany = true;
		}
		else {
			o = s.taboption('general', form.ListValue, 'zone', _('Knocks come from'),
				_('The firewall zone on whose side people knock.'));
			o.value('*', _('any zone'));

			const stored = uci.get('pkd', 'gate', 'zone');
			const names = new Set(zones.names.concat(stored && stored !== 'any' ? stored : 'wan'));

			names.forEach((name) => o.value(name, name));
		}

		/* The widget says * for what UCI calls any. */
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
			_('Knocks carry the time. A router without a battery starts with a wrong one until NTP has set it.'));
		o.value('ntp', _('wait for NTP: no knock counts before it has set the clock'));
		o.value('trust', _('trust: the clock is right when the router starts'));
		o.default = 'ntp';
		o.rmempty = false;

		o = s.taboption('advanced', form.ListValue, 'mode', _('Checked by'));
		o.value('match', _('match: the kernel module xt_pkd'));
		o.value('nft', _('nft: the daemon pkdd'));
		o.default = 'match';
		o.rmempty = false;

		o = s.taboption('advanced', form.Value, 'mark', _('Packet mark'),
			_('Bits of the packet mark that pkd may use: a mask of 2 to 8 adjacent bits that neither mwan3 nor pbr uses.'));
		o.default = '0x00ff0000';
		o.rmempty = false;
		watch(o, ignoringSection(checkMark));
	},

	addServices: function(m) {
		const s = m.section(form.GridSection, 'service', _('Services'),
			_('What a knock opens, to the address that the knock came from.'));
		let o;

		s.addremove = true;
		s.nodescriptions = true;
		s.addbtntitle = _('Add service');
		s.modaltitle = (section_id) => _('Service %s').format(section_id);

		s.handleAdd = function(ev, name) {
			const right = checkSectionName(name, 16);

			if (right !== true)
				return notify(right, 'error');

			return form.GridSection.prototype.handleAdd.call(this, ev, name);
		};

		s.handleRemove = function(section_id, ev) {
			const users = uci.sections('pkd', 'user').filter((user) => L.toArray(user.service).includes(section_id));

			if (users.length)
				return notify(_('The service “%s” stays: take it away from %s first.').format(
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
		watch(o, ignoringSection(checkPort));

		o = s.option(form.Value, 'seconds', _('Open for seconds'),
			_('How long after the knock a new connection may begin. What is connected stays connected.'));
		o.default = '30';
		o.rmempty = false;
		watch(o, ignoringSection(checkSeconds));

		o = s.option(form.DynamicList, 'tag', _('Only for tags'),
			_('Only users with one of these tags may open it. Empty: every user who lists the service.'));
		o.textvalue = function(section_id) {
			const tags = L.toArray(this.cfgvalue(section_id));

			return E('span', {}, [ tags.length ? tags.join(', ') : _('all users') ]);
		};
		watch(o, ignoringSection(checkTag));
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
			const right = checkSectionName(name, 32);

			if (right !== true)
				return notify(right, 'error');

			return form.GridSection.prototype.handleAdd.call(this, ev, name);
		};

		o = s.option(form.Flag, 'enabled', _('Enabled'));
		o.default = '1';

		o = s.option(form.Value, 'tag', _('Tag'),
			_('1 to 4 bytes of text, or 0x and hexadecimal. It goes over the wire in the clear, and no two users have the same.'));
		o.rmempty = false;
		watch(o, checkUserTag);

		o = s.option(form.MultiValue, 'service', _('Opens'),
			_('The services that a knock of this user opens.'));
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
		watch(o, ignoringSection(checkServiceName));

		o = s.option(form.Value, 'window', _('Window'),
			_('How many seconds the clock of the knocking computer may differ from the router’s.'));
		o.default = '10';
		o.rmempty = false;
		watch(o, ignoringSection(checkSeconds));

		o = s.option(form.Value, 'expires', _('Last day'),
			_('The last day (UTC) on which knocks of this user count, as year-month-day. Empty: no end.'));
		o.placeholder = '2027-12-31';
		o.textvalue = function(section_id) {
			return E('span', {}, [ this.cfgvalue(section_id) || _('no end') ]);
		};
		watch(o, ignoringSection(checkDate));

		o = s.option(form.Value, 'key_file', _('Key file'),
			_('Where the router keeps the key. LuCI can write keys into %s, and read none.').format(KEY_FOLDER));
		o.modalonly = true;
		o.load = function(section_id) {
			this.placeholder = KEY_FOLDER + section_id + '.key';

			return form.Value.prototype.load.call(this, section_id);
		};
		watch(o, ignoringSection(checkKeyFile));

		o = s.option(form.Button, '_make', _('Key'));
		o.editable = true;
		o.modalonly = false;
		o.inputtitle = _('Make key…');
		o.inputstyle = 'action';
		o.write = o.remove = function() {};
		o.onclick = (ev, section_id) => this.makeKey(section_id, uqr);
	},

	/* Shows a fresh key once; writes it when asked to, and forgets it. */
	makeKey: function(name, uqr) {
		const tag = String(uci.get('pkd', name, 'tag') || '');
		const port = String(uci.get('pkd', 'gate', 'port') || 'any');
		const path = KEY_FOLDER + name + '.key';

		if (checkTag(tag) !== true || checkKnockPort(port) !== true)
			return notify(_('The line for “%s” needs a valid tag, and a valid port of the gate: correct and save them first.').format(name), 'error');

		const key = randomKey();
		const host = E('input', {
			'type': 'text',
			'class': 'cbi-input-text',
			'id': 'pkd-key-host',
			'value': window.location.hostname.replace(/^\[|\]$/g, '')
		});
		const line = E('pre', { 'id': 'pkd-key-line', 'style': 'white-space:pre-wrap;overflow-wrap:anywhere;user-select:all' });
		const code = E('div', { 'id': 'pkd-key-qr', 'style': 'background:#fff;width:320px;max-width:100%' });
		const fault = E('div', { 'class': 'alert-message error', 'id': 'pkd-key-error', 'style': 'display:none' });

		const complain = (text) => {
			dom.content(fault, [ text ]);
			fault.style.display = text ? '' : 'none';
		};

		const draw = () => {
			const right = checkHost(host.value);

			complain(right === true ? '' : right);
			host.classList.toggle('cbi-input-invalid', right !== true);

			const text = right === true ? clientLine(key, name, tag, port, host.value) : '';

			dom.content(line, [ text ]);
			dom.content(code, []);
			write.disabled = !text;

			if (uqr && text) {
				/* Digits, and the four empty modules around that readers ask for; nothing of it is text of the user. */
				code.innerHTML = uqr.renderSVG(text, { pixelSize: 4, border: 4 });

				const svg = code.querySelector('svg');

				if (!svg.hasAttribute('viewBox'))
					svg.setAttribute('viewBox', '0 0 %s %s'.format(svg.getAttribute('width'), svg.getAttribute('height')));

				svg.setAttribute('style', 'display:block;width:100%;height:auto');
			}
		};

		const forget = () => {
			dom.content(line, []);
			dom.content(code, []);
			ui.hideModal();
		};

		const write = E('button', {
			'class': 'btn cbi-button cbi-button-positive important',
			'id': 'pkd-key-write',
			'click': ui.createHandlerFn(this, () => this.writeKey(name, path, key).then(forget, (error) =>
				complain(error.message)))
		}, [ _('Write key') ]);

		host.addEventListener('input', draw);
		draw();

		ui.showModal(_('A key for %s').format(name), [
			E('p', {}, [
				_('Type this line on the computer that knocks, or scan it. It is shown once: nothing in LuCI can read a key back.')
			]),
			E('div', { 'class': 'cbi-value' }, [
				E('label', { 'class': 'cbi-value-title', 'for': 'pkd-key-host' }, [ _('The router’s name or address') ]),
				E('div', { 'class': 'cbi-value-field' }, [ host ])
			]),
			line,
			code,
			E('p', {}, [
				_('“Write key” puts it into %s. The key that may be there now stops working; “Cancel” leaves everything as it is.').format(path)
			]),
			fault,
			E('div', { 'class': 'right' }, [
				E('button', {
					'class': 'btn cbi-button',
					'id': 'pkd-key-cancel',
					'click': forget
				}, [ _('Cancel') ]),
				' ',
				write
			])
		]);
	},

	writeKey: function(name, path, key) {
		return fs.write(path, key + '\n', KEY_MODE).catch((error) => {
			throw new Error(_('The key was not written: %s.').format(explain(error)));
		}).then(() => {
			uci.set('pkd', name, 'key_file', path);
			uci.unset('pkd', name, 'key');

			return uci.save().catch((error) => {
				throw new Error(_('The key lies in %s now, but the configuration does not name it: %s.').format(path, explain(error)));
			});
		}).then(() => {
			this.warn();

			/* The configuration need not have changed, so Save & Apply alone could leave the old key at work. */
			return fs.exec_direct('/etc/init.d/pkd', [ 'reload' ], 'text').then(() =>
				notify(_('The key of “%s” is written. Save & Apply, if there are changes left to apply.').format(name), 'info')
			).catch((error) =>
				notify(_('The key of “%s” is written, but pkd took no notice: %s. Run “service pkd reload” on the router.').format(
					name, explain(error)), 'warning'));
		});
	},

	/* Keys that lie in UCI, from other times. */
	warn: function() {
		const names = uci.sections('pkd', 'user').filter((user) => user.key != null).map((user) => '“' + user['.name'] + '”');

		this.warning.style.display = names.length ? '' : 'none';
		dom.content(this.warning, [
			_('The key of %s lies in the configuration, where every program that may read it over ubus finds it. Make a new key: it goes into a file, and the old one is removed.').format(names.join(', '))
		]);
	},

	render: function(data) {
		if (!data.error && uci.get('pkd', 'gate') == null)
			data.error = new Error(_('/etc/config/pkd has no section “gate”. Install the package pkd anew.'));

		if (data.error)
			return E('div', {}, [
				E('h2', {}, [ _('Port knocking') ]),
				E('div', { 'class': 'alert-message error', 'id': 'pkd-error' }, [
					denied(data.error)
						? _('This login may not read the configuration of pkd: it lacks the access group luci-app-pkd.')
						: _('The configuration of pkd cannot be read: %s').format(data.error.message)
				])
			]);

		const [ zones, uqr ] = data;
		const m = new form.Map('pkd', _('Port knocking'),
			_('Ports stay closed to all, and open to the one address that has just sent the right datagram.'));

		this.addGate(m, zones);
		this.addServices(m);
		this.addUsers(m, uqr);

		this.warning = E('div', { 'class': 'alert-message warning', 'id': 'pkd-legacy' });
		this.warn();

		return m.render().then((nodes) => E('div', {}, [ this.warning, nodes ]));
	}
});
