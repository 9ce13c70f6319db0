'use strict';
'require baseclass';
'require uci';
'require fs';
'require pkd.errors as errors';

/* The check of the whole configuration is pkdd's own, so that the page and the service never disagree. */

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
		throw new Error(_('Cannot check the configuration with “pkd check”: %s.').format(errors.explain(error)));
	});
}

/* The sections as they would be saved. LuCI leaves options that were removed in what it returns of a section. */
function current() {
	return uci.sections('pkd').map((section) => {
		const result = {};

		for (const option of Object.keys(section)) {
			const value = option.startsWith('.') ? section[option] : uci.get('pkd', section['.name'], option);

			if (value != null)
				result[option] = value;
		}

		return result;
	});
}

/* One section with the least that it needs around it: problems elsewhere do not concern a dialog. */
function alone(name) {
	const section = current().find((one) => one['.name'] === name);
	const services = uci.sections('pkd', 'service').map((service, index) =>
		({ '.type': 'service', '.name': service['.name'], port: index + 1 }));

	/* What a service may have depends on the mode. */
	const mode = uci.get('pkd', 'gate', 'mode') === 'nft' ? 'nft' : 'match';

	return [ { '.type': 'gate', '.name': 'gate', zone: 'any', mode: mode } ]
		.concat(section['.type'] === 'user' ? services : [], section);
}

/* Has a map checked before it is saved. `only`: the section of a dialog. */
function checkOnSave(map, only) {
	const save = map.save;

	map.save = function(callback, silent) {
		/* A silent save of the page itself only removes a section. */
		if (silent && only == null)
			return save.call(this, callback, silent);

		const before = current();

		return save.call(this, () => Promise.resolve(callback ? callback() : null).then(() => {
			return findProblem(only == null ? current() : alone(only));
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
		const now = current().find((one) => one['.name'] === name) || {};

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

return baseclass.extend({
	findProblem: findProblem,
	onSave: checkOnSave,
	sectionName: checkSectionName
});
