'use strict';
'require view';
'require form';
'require uci';
'require dom';
'require pkd.check as check';
'require pkd.errors as errors';

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
		return uci.load('pkd').then(loadZones).catch((error) => ({ error: error }));
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
		o.value('nft', _('nft: the daemon pkdd'));
		o.value('match', _('match: the kernel module xt_pkd'));
		o.default = 'nft';
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
		s.addModalOptions = (dialog, section_id) => check.onSave(dialog.map, section_id);

		s.handleAdd = function(ev, name) {
			const result = check.sectionName(name, 25);

			if (result !== true)
				return errors.notify(result, 'error');

			return form.GridSection.prototype.handleAdd.call(this, ev, name);
		};

		s.handleRemove = function(section_id, ev) {
			const users = uci.sections('pkd', 'user').filter((user) => L.toArray(user.service).includes(section_id));

			if (users.length)
				return errors.notify(_('Cannot delete service “%s”: remove it from %s first.').format(
					section_id, users.map((user) => '“' + user['.name'] + '”').join(', ')), 'error');

			return form.GridSection.prototype.handleRemove.call(this, section_id, ev);
		};

		o = s.option(form.ListValue, 'protocol', _('Protocol'));
		o.value('tcp', 'TCP');
		o.value('udp', 'UDP');
		o.default = 'tcp';
		o.rmempty = false;

		o = s.option(form.Value, 'port', _('Ports'),
			_('A port, a range, or several of both with spaces between them: 80 443 8000-8100.'));
		o.rmempty = false;
		/* In UCI it may also be a list. */
		o.load = (section_id) => L.toArray(uci.get('pkd', section_id, 'port')).join(' ');

		o = s.option(form.Value, 'seconds', _('Seconds open'),
			_('How long new connections may start after a knock. Established connections stay open.'));
		o.default = '30';
		o.rmempty = false;

		o = s.option(form.DynamicList, 'dest_ip', _('Host'),
			_('Address of the host behind the router that runs the service, at most one IPv4 and one IPv6 address. After a knock, connections are forwarded there. ::10/-64 matches the end of an IPv6 address, whatever its prefix. If empty, the service runs on the router itself.'));
		o.modalonly = true;

		o = s.option(form.Value, 'dest_port', _('Port on that host'),
			_('If empty, the same port.'));
		o.modalonly = true;

		o = s.option(form.Flag, 'end_connections', _('End connections'),
			_('Connections end with the grant. Needs mode nft and the package kmod-nf-conntrack-netlink.'));
		o.modalonly = true;

		o = s.option(form.DynamicList, 'tag', _('Only for tags'),
			_('Only users with one of these tags may open this service. If empty, all users who list the service may.'));
		o.textvalue = function(section_id) {
			const tags = L.toArray(this.cfgvalue(section_id));

			return E('span', {}, [ tags.length ? tags.join(', ') : _('all users') ]);
		};
	},

	addUsers: function(m) {
		const s = m.section(form.GridSection, 'user', _('Users'),
			_('Who may knock. Users are added, get new keys and are revoked on the Status page.'));
		let o;

		s.nodescriptions = true;
		s.modaltitle = (section_id) => _('User %s').format(section_id);
		s.addModalOptions = (dialog, section_id) => check.onSave(dialog.map, section_id);

		o = s.option(form.Flag, 'enabled', _('Enabled'));
		o.default = '1';

		o = s.option(form.Value, 'tag', _('Tag'),
			_('1 to 4 bytes of text, or 0x and hexadecimal digits. With mode match each user needs a different one.'));
		o.rmempty = false;

		o = s.option(form.ListValue, 'format', _('Format'),
			_('Must be the format that the user’s knocks have. In format 2 nothing is sent unencrypted, and a knock can be bound to addresses.'));
		o.value('2', _('2'));
		o.value('classic', _('classic'));
		o.default = '2';

		o = s.option(form.MultiValue, 'require', _('Require'),
			_('Only with format 2: accept only knocks that are bound to these addresses. A sender behind a NAT cannot bind its source.'));
		o.value('source', _('source'));
		o.value('destination', _('destination'));
		o.modalonly = true;

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
			_('How many seconds the clock of the computer that knocks may differ from the router’s, 1 to 300 with format 2.'));
		o.default = '10';
		o.rmempty = false;

		o = s.option(form.Value, 'expires', _('Expires'),
			_('Last day (UTC) on which this user’s knocks are accepted, as year-month-day. If empty, the user never expires.'));
		o.placeholder = '2027-12-31';
		o.textvalue = function(section_id) {
			return E('span', {}, [ this.cfgvalue(section_id) || _('never') ]);
		};

		o = s.option(form.Value, 'key_file', _('Key file'),
			_('Where the router has the key. LuCI can neither read nor write it.'));
		o.modalonly = true;
		o.load = function(section_id) {
			this.placeholder = '/etc/pkd/keys/%s.key'.format(section_id);

			return form.Value.prototype.load.call(this, section_id);
		};
	},

	/* Warns of keys that are stored in UCI itself. */
	warn: function() {
		const names = uci.sections('pkd', 'user').filter((user) => user.key != null).map((user) => '“' + user['.name'] + '”');

		this.warning.style.display = names.length ? '' : 'none';
		dom.content(this.warning, [
			_('The key of %s is stored in the configuration, where every program with ubus access to it can read it. Make a new key on the Status page: it is written to a file.').format(names.join(', '))
		]);
	},

	render: function(data) {
		if (!data.error && uci.get('pkd', 'gate') == null)
			data.error = new Error(_('/etc/config/pkd has no section “gate”: reinstall the package pkd.'));

		if (data.error)
			return E('div', {}, [
				E('h2', {}, [ _('Port knocking') ]),
				E('div', { 'class': 'alert-message error', 'id': 'pkd-error' }, [
					errors.denied(data.error)
						? _('This login may not read pkd’s configuration: it needs the access group luci-app-pkd.')
						: _('Cannot read pkd’s configuration: %s').format(data.error.message)
				])
			]);

		const zones = data;
		const m = new form.Map('pkd', _('Port knocking'),
			_('pkd keeps ports closed, and opens them only to an address that has just sent a valid knock.'));

		this.addGate(m, zones);
		this.addServices(m);
		this.addUsers(m);
		check.onSave(m, null);

		this.warning = E('div', { 'class': 'alert-message warning', 'id': 'pkd-legacy' });
		this.warn();

		return m.render().then((nodes) => E('div', {}, [ this.warning, nodes ]));
	}
});
