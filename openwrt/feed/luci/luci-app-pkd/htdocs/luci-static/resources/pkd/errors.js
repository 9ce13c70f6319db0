'use strict';
'require baseclass';
'require ui';

return baseclass.extend({
	/* From rpcd, or from the web server in front of it. */
	denied: function(error) {
		return error.name === 'PermissionError' || /access denied|permission denied/i.test(error.message);
	},

	explain: function(error) {
		return this.denied(error)
			? _('permission denied: this login needs write access (group luci-app-pkd)')
			: error.message;
	},

	notify: function(text, kind) {
		ui.addNotification(null, E('p', {}, [ text ]), kind);
	}
});
