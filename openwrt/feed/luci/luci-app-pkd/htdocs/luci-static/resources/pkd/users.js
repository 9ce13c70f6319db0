'use strict';
'require baseclass';
'require fs';
'require ui';
'require dom';
'require pkd.errors as errors';

/* Everything is done by the program pkd, which says what is wrong. The key of a user is in one of its answers. That is shown
 * once, and kept nowhere. */

const REMEMBERED = 'pkd.address';

/* Resolves to what the program prints; rejects with its sentence. */
function run(words) {
	return fs.exec('/usr/sbin/pkd', words).then((done) => {
		if (done.code !== 0)
			throw new Error(String(done.stderr || '').trim().replace(/^pkd: /, '') || _('pkd failed and does not say why'));

		return String(done.stdout || '');
	}, (error) => {
		throw new Error(errors.explain(error));
	});
}

/* The words for each address of the router. */
function addressWords(text) {
	const addresses = text.split(/[\s,]+/).filter((one) => one);
	const wrong = addresses.find((one) => !/^[A-Za-z0-9_:[][A-Za-z0-9_.:%\]-]*$/.test(one));

	if (!addresses.length)
		throw new Error(_('Enter the router’s name or address.'));

	if (wrong)
		throw new Error(_('Invalid host “%s”: expected the router’s name or address.').format(wrong));

	return addresses.flatMap((one) => [ '--address', one ]);
}

function field(title, input, hint) {
	return E('div', { 'class': 'cbi-value' }, [
		E('label', { 'class': 'cbi-value-title', 'for': input.id || null }, [ title ]),
		E('div', { 'class': 'cbi-value-field' }, [ input, E('div', { 'class': 'cbi-value-description' }, [ hint || '' ]) ])
	]);
}

function input(id, type, value, placeholder) {
	return E('input', { 'type': type, 'class': 'cbi-input-text', 'id': 'pkd-' + id, 'value': value || '', 'placeholder': placeholder || '' });
}

function button(id, title, kind, click) {
	return E('button', { 'class': 'btn cbi-button ' + kind, 'id': 'pkd-' + id, 'click': click }, [ title ]);
}

function addressField() {
	return input('address', 'text', window.localStorage.getItem(REMEMBERED), 'home.example.net');
}

/* A dialog. `submit` may throw or reject, and what is wrong is shown; otherwise it has closed the dialog or shown another. */
function show(title, content, action, kind, submit) {
	const problem = E('div', { 'class': 'alert-message error', 'id': 'pkd-problem', 'style': 'display:none' });

	ui.showModal(title, content.concat([
		problem,
		E('div', { 'class': 'right' }, [
			button('cancel', _('Cancel'), '', ui.hideModal), ' ',
			button('submit', action, kind, ui.createHandlerFn(this, () => Promise.resolve().then(submit).catch((error) => {
				dom.content(problem, [ error.message ]);
				problem.style.display = '';
			})))
		])
	]));
}

function drawCode(uqr, text) {
	const code = E('div', { 'id': 'pkd-code', 'style': 'background:#fff;width:320px;max-width:100%' });

	/* The SVG contains only numbers, no user input. QR readers need the border of four modules. */
	code.innerHTML = uqr.renderSVG(text, { pixelSize: 4, border: 4 });

	const svg = code.querySelector('svg');

	if (!svg.hasAttribute('viewBox'))
		svg.setAttribute('viewBox', '0 0 %s %s'.format(svg.getAttribute('width'), svg.getAttribute('height')));

	svg.setAttribute('style', 'display:block;width:100%;height:auto');

	return code;
}

/* Shows the line that lets a user in. `uqr` draws the QR code, if it is there. */
function showLine(name, line, uqr, changed) {
	const profile = (line.match(/^knock:\/\/[^/]*\/([^?]+)/) || [ null, _('PROFILE') ])[1];
	const text = E('pre', { 'id': 'pkd-line', 'style': 'white-space:pre-wrap;overflow-wrap:anywhere;user-select:all' }, [ line ]);
	const box = E('div', {}, [ text, uqr ? drawCode(uqr, line) : '' ]);
	const note = E('p', { 'id': 'pkd-note' });

	changed().then((sentence) => dom.content(note, [ sentence ]));

	ui.showModal(_('Key for %s').format(name), [
		note,
		E('p', {}, [ _('This line is the key. It is shown only now: copy it, or scan the code, and give it to nobody else.') ]),
		box,
		button('copy', _('Copy'), 'cbi-button-action', () => {
			window.getSelection().selectAllChildren(text);
			/* Unlike the newer way, this works without HTTPS. */
			document.execCommand('copy');
		}),
		E('p', {}, [ _('On the computer that knocks, the first command asks for the line, and the second knocks:') ]),
		E('pre', { 'id': 'pkd-commands' }, [ 'knock import -\nknock %s'.format(profile) ]),
		E('p', {}, [ _('On a phone, the same commands run in Termux (Android) or iSH (iOS): read the code with the camera, and paste the line.') ]),
		E('div', { 'class': 'right' }, [
			button('done', _('Done'), 'cbi-button-positive important', () => {
				dom.content(box, []);
				ui.hideModal();
			})
		])
	]);
}

/* Has pkd make a key, and shows it. */
function makeKey(words, name, address, uqr, changed) {
	const addresses = addressWords(address);

	return run(words.concat(addresses)).then((line) => {
		window.localStorage.setItem(REMEMBERED, address);
		showLine(name, line.trim(), uqr, changed);
	});
}

function dateWords(option, date) {
	return date.value ? [ option, date.value ] : [];
}

/* `changed` is called after something has changed on the router; it resolves to what is wrong with the gate then. */
return baseclass.extend({
	run: run,

	add: function(services, uqr, changed) {
		const name = input('name', 'text', '', 'ann');
		const address = addressField();
		const expires = input('date', 'date');
		const boxes = services.map((service) => E('input', { 'type': 'checkbox', 'value': service, 'checked': true }));

		show(_('Add user'), [
			field(_('Name'), name, _('Letters, digits and _. A name for each device is best: a lost one can be shut out alone.')),
			field(_('Opens'), E('div', { 'id': 'pkd-services' }, boxes.flatMap((box) => [ E('label', {}, [ box, ' ', box.value ]), E('br') ]))),
			field(_('Expires'), expires, _('Last day (UTC) on which knocks are accepted. If empty, never.')),
			field(_('Router’s address'), address, _('The name or address by which the router is reached from outside; several with spaces between them.'))
		], _('Add user'), 'cbi-button-positive important', () => {
			const chosen = boxes.filter((box) => box.checked);

			if (!chosen.length)
				throw new Error(_('Choose what the user may open.'));

			return makeKey([ 'user', 'add', name.value ].concat(
				/* If it is all of them, pkd knows them. */
				chosen.length < boxes.length ? chosen.flatMap((box) => [ '--service', box.value ]) : [],
				dateWords('--expires', expires)), name.value, address.value, uqr, changed);
		});
	},

	rotate: function(name, uqr, changed) {
		const address = addressField();
		const until = input('date', 'date');

		show(_('New key for %s').format(name), [
			E('p', {}, [ _('The old key works until the new one was used, so that nobody is locked out meanwhile.') ]),
			field(_('At the latest until'), until, _('Last day (UTC) of the old key. If empty, 30 days from now.')),
			field(_('Router’s address'), address)
		], _('Make key'), 'cbi-button-positive important', () =>
			makeKey([ 'user', 'rotate', name ].concat(dateWords('--until', until)), name, address.value, uqr, changed));
	},

	revoke: function(name, changed) {
		show(_('Revoke %s').format(name), [
			E('p', {}, [ _('Knocks of %s are ignored from now on, and what they have opened is closed. The key is deleted.').format(name) ])
		], _('Revoke'), 'cbi-button-negative important', () => run([ 'user', 'revoke', name ]).then(() => {
			ui.hideModal();
			changed();
		}));
	},

	close: function(address, changed) {
		return run([ 'close', address ]).then(changed, (error) => errors.notify(error.message, 'error'));
	}
});
