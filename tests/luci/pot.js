// Prints the translation template for the package's texts: `node tests/luci/pot.js > PACKAGE/po/templates/pkd.pot`.
'use strict';

const fs = require('node:fs');
const path = require('node:path');

const { ACL_FILE, APP, MENU_FILE, readJson } = require('../fakes/luci/router.js');

const RESOURCES = 'htdocs/luci-static/resources';

// The package's scripts: modules, then views.
const scripts = () => ['pkd', 'view/pkd'].flatMap((folder) =>
  fs.readdirSync(path.join(APP, RESOURCES, folder)).sort().map((name) => `${RESOURCES}/${folder}/${name}`));

// Each text with the files that contain it, in the order of the files.
function texts() {
  const found = new Map();
  const note = (text, file) => found.set(text, [...new Set([...(found.get(text) || []), file])]);
  for (const file of scripts()) {
    const source = fs.readFileSync(path.join(APP, file), 'utf8');
    for (const match of source.matchAll(/\b_\('((?:[^'\\]|\\.)*)'\)/g)) {
      note(match[1].replace(/\\(.)/g, '$1'), file);
    }
  }
  Object.values(readJson(MENU_FILE)).forEach((entry) => note(entry.title, path.relative(APP, MENU_FILE)));
  Object.values(readJson(ACL_FILE)).forEach((group) => note(group.description, path.relative(APP, ACL_FILE)));
  return found;
}

function template() {
  const entries = [...texts()].map(([text, files]) =>
    `${files.map((file) => `#: ${file}\n`).join('')}msgid ${JSON.stringify(text)}\nmsgstr ""\n`);
  return `msgid ""\nmsgstr "Content-Type: text/plain; charset=UTF-8"\n\n${entries.join('\n')}`;
}

module.exports = { scripts, template };

if (require.main === module) process.stdout.write(template());
