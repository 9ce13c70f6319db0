'use strict';
'require baseclass';
'require uci';
'require fs';
'require ui';
'require dom';
'require pkd.check as check';
'require pkd.errors as errors';

/* A key leaves this page in two ways: as a file that LuCI may write but not read, and on the screen, once. It never goes
 * into UCI, which every login with access to this page can read. */

const FOLDER = '/etc/pkd/keys/';
const BYTES = 32;
const MODE = 0o600;

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

function clientLine(key, name, format, tag, port, host) {
	const file = name + '.key';
	const words = [ 'knock', ...(format === 'classic' ? [] : [ '--format 2' ]), option('--key-file', file), option('--tag', tag) ];

	if (port !== 'any')
		words.push(option('--port', port));

	words.push(quoted(host));

	return '(umask 077; echo %s > %s) && %s'.format(key, quoted(file), words.join(' '));
}

function randomKey() {
	const bytes = new Uint8Array(BYTES);

	window.crypto.getRandomValues(bytes);

	return '0x' + Array.from(bytes, (byte) => byte.toString(16).padStart(2, '0')).join('');
}

return baseclass.extend({
	folder: FOLDER,

	/* Makes a key for a user. The command with the key needs a valid tag and port. `uqr` draws the QR code, if it is
	 * there; `written` is called when the router has the key. */
	make: function(name, uqr, written) {
		const format = String(uci.get('pkd', name, 'format') || '2');
		const tag = String(uci.get('pkd', name, 'tag') || '');
		const port = String(uci.get('pkd', 'gate', 'port') || 'any');
		const path = FOLDER + name + '.key';

		const sections = uci.sections('pkd')
			.filter((section) => section['.type'] !== 'user' || section['.name'] === name)
			/* A new key replaces whatever is wrong with the old one. */
			.map((section) => Object.assign({}, section, { key: [], key_file: [] }));

		return check.findProblem(sections).then((problem) => {
			if (problem)
				throw new Error('%s: %s'.format(problem.section || 'pkd', problem.message));

			this.show(name, format, tag, port, path, uqr, written);
		}).catch((error) => errors.notify(_('Cannot make a key for “%s”: %s').format(name, error.message), 'error'));
	},

	/* Shows a new key once, and writes it on request. */
	show: function(name, format, tag, port, path, uqr, written) {
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

			const text = result === true ? clientLine(key, name, format, tag, port, host.value) : '';

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
			'click': ui.createHandlerFn(this, () => this.write(name, path, key, written).then(close, (error) =>
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

	write: function(name, path, key, written) {
		return fs.write(path, key + '\n', MODE).catch((error) => {
			throw new Error(_('Cannot write the key: %s.').format(errors.explain(error)));
		}).then(() => {
			uci.set('pkd', name, 'key_file', path);
			uci.unset('pkd', name, 'key');

			return uci.save().catch((error) => {
				throw new Error(_('The key was written to %s, but cannot be added to the configuration: %s.').format(path, errors.explain(error)));
			});
		}).then(() => {
			written();

			/* If the configuration did not change, Save & Apply alone would leave the old key in use. */
			return fs.exec_direct('/etc/init.d/pkd', [ 'reload' ], 'text').then(() =>
				errors.notify(_('The key of “%s” was written. If changes are pending, choose Save & Apply.').format(name), 'info')
			).catch((error) =>
				errors.notify(_('The key of “%s” was written, but pkd could not be reloaded: %s. Run “service pkd reload” on the router.').format(
					name, errors.explain(error)), 'warning'));
		});
	}
});
