// A fake of LuCI's client runtime, as far as pkd's pages use it. It has LuCI's pitfalls: E() and dom.content() treat a
// bare string as HTML, fields are validated only once touched, and a dialog's map is a copy. A feature that this fake
// lacks throws an error.
'use strict';

(() => {
  // --- strings ---

  String.prototype.format = function (...values) {
    let next = 0;
    return this.replace(/%(0?)(\d*)([sdh%])/g, (whole, zero, width, type) => {
      if (type === '%') return '%';
      const value = values[next++];
      let text;
      if (type === 'd') text = String(Math.trunc(Number(value)));
      else if (type === 'h') text = escapeHtml(String(value));
      else text = String(value);
      return width ? text.padStart(Number(width), zero || ' ') : text;
    });
  };

  function escapeHtml(text) {
    return text.replace(/[&<>"']/g, (sign) => `&#${sign.charCodeAt(0)};`);
  }

  window._ = (text) => text;

  // --- classes ---

  function Base() {}
  Base.extend = function (members) {
    const Parent = this;
    function Class(...values) {
      if (this.__init__) this.__init__(...values);
    }
    Class.prototype = Object.create(Parent.prototype, { constructor: { value: Class, writable: true } });
    Object.assign(Class.prototype, members);
    Class.extend = Base.extend;
    return Class;
  };

  // --- dom ---

  const instances = new WeakMap();

  const dom = {
    elem: (value) => value instanceof Node,
    append(node, children) {
      if (Array.isArray(children)) {
        for (const child of children) {
          if (dom.elem(child)) node.appendChild(child);
          else node.appendChild(document.createTextNode(`${child}`));
        }
      } else if (dom.elem(children)) {
        node.appendChild(children);
      } else if (children !== null && children !== undefined) {
        node.innerHTML = `${children}`;
      }
      return node;
    },
    content(node, children) {
      node.replaceChildren();
      return dom.append(node, children);
    },
    bindClassInstance(node, instance) {
      instances.set(node, instance);
    },
    findClassInstance(node) {
      for (let one = node; one; one = one.parentNode) if (instances.has(one)) return instances.get(one);
      return null;
    },
    callClassMethod(node, method, ...values) {
      const instance = dom.findClassInstance(node);
      return instance && typeof instance[method] === 'function' ? instance[method](...values) : null;
    },
  };

  function E(name, attributes, children) {
    if (Array.isArray(name)) return dom.append(document.createDocumentFragment(), name);
    const plain = attributes !== null && typeof attributes === 'object' && !Array.isArray(attributes) && !dom.elem(attributes);
    const node = document.createElement(name);
    for (const [key, value] of Object.entries(plain ? attributes : {})) {
      if (value === null || value === undefined) continue;
      if (typeof value === 'function') node.addEventListener(key, value);
      else node.setAttribute(key, typeof value === 'object' ? JSON.stringify(value) : value);
    }
    return dom.append(node, plain ? children : (attributes ?? children));
  }
  window.E = E;

  // --- L and its module loader ---

  const loaded = new Map();

  const L = {
    env: { sessionid: window.environment.sessionid, cgi_base: '/cgi-bin', resource: '/luci-static/resources' },
    dom,
    bind: (method, self, ...values) => method.bind(self, ...values),
    isObject: (value) => value !== null && typeof value === 'object',
    toArray(value) {
      if (value === null || value === undefined) return [];
      if (Array.isArray(value)) return value;
      if (typeof value === 'object') return [value];
      const text = String(value).trim();
      return text === '' ? [] : text.split(/\s+/);
    },
    resolveDefault: (promise, fallback) => Promise.resolve(promise).catch(() => fallback),
    url: (...parts) => `/cgi-bin/luci/${parts.join('/')}`,
    require(name) {
      if (!loaded.has(name)) loaded.set(name, load(name));
      return loaded.get(name);
    },
  };
  window.L = L;

  function absent(name) {
    const error = new Error(`HTTP error 404 while loading class file "${name}"`);
    error.name = 'NetworkError';
    return error;
  }

  async function load(name) {
    if (window.environment.without.includes(name)) throw absent(name);
    if (builtin[name]) return builtin[name]();
    const response = await fetch(`${L.env.resource}/${name.replace(/\./g, '/')}.js`);
    if (!response.ok) throw absent(name);
    const source = await response.text();
    // The directives at the top: 'require a.b as c'.
    const needs = [];
    const head = /^\s*(?:\/\/[^\n]*\n|\/\*[\s\S]*?\*\/|'use strict';|'require ([^\s']+)(?: as ([^\s']+))?';)/;
    let rest = source;
    for (let match = rest.match(head); match; match = rest.match(head)) {
      if (match[1]) needs.push([match[1], match[2] || match[1].replace(/[^a-zA-Z0-9_]/g, '_')]);
      rest = rest.substring(match[0].length);
    }
    const modules = [];
    for (const [need] of needs) modules.push(await L.require(need));
    const make = new Function('L', ...needs.map(([, alias]) => alias), `${source}\n//# sourceURL=${name}.js`);
    const Class = make(L, ...modules);
    if (typeof Class !== 'function') throw new Error(`"${name}" does not return a class`);
    return new Class();
  }

  // --- rpc ---

  let messages = 0;

  const rpc = {
    declare(call) {
      return async (...values) => {
        const parameters = {};
        (call.params || []).forEach((name, index) => {
          if (values[index] !== undefined) parameters[name] = values[index];
        });
        const response = await fetch('/ubus', {
          method: 'POST',
          body: JSON.stringify({
            jsonrpc: '2.0', id: ++messages, method: 'call',
            params: [L.env.sessionid, call.object, call.method, parameters],
          }),
        });
        const answer = await response.json();
        const raise = (what) => {
          const error = new Error(`RPC call to ${call.object}/${call.method} failed with ${what}`);
          error.name = 'RPCError';
          throw error;
        };
        if (answer.error) raise(`error ${answer.error.code}: ${answer.error.message}`);
        if (call.reject && answer.result[0] !== 0) raise(`ubus code ${answer.result[0]}: ${rpc.getStatusText(answer.result[0])}`);
        let result = answer.result.length > 1 ? answer.result[1] : answer.result[0];
        for (const key of Object.keys(call.expect || {})) {
          if (result != null && key !== '') result = result[key];
          const wanted = call.expect[key];
          if (result == null || Object.prototype.toString.call(result) !== Object.prototype.toString.call(wanted)) result = wanted;
          break;
        }
        return result;
      };
    },
    getStatusText(code) {
      return ['Command OK', 'Invalid command', 'Invalid argument', 'Method not found', 'Resource not found',
        'No data received', 'Permission denied', 'Request timeout', 'Not supported', 'Unspecified error',
        'Connection lost'][code] || 'Unknown error code';
    },
  };

  // --- uci: the browser's copy of the configurations, and the changes to it ---

  const uciCall = (method, params, expect) => rpc.declare({ object: 'uci', method, params, expect, reject: true });
  const callGet = uciCall('get', ['config'], { values: {} });
  const callAdd = uciCall('add', ['config', 'type', 'name', 'values'], { section: '' });
  const callSet = uciCall('set', ['config', 'section', 'values']);
  const callDelete = uciCall('delete', ['config', 'section', 'options']);
  const callApply = rpc.declare({ object: 'uci', method: 'apply', params: ['timeout', 'rollback'], reject: true });
  const callConfirm = rpc.declare({ object: 'uci', method: 'confirm', reject: true });

  const uci = {
    values: {}, creates: {}, sets: {}, deletes: {}, loading: {},
    load(names) {
      return Promise.all(L.toArray(names).map((name) => {
        if (uci.values[name]) return name;
        uci.loading[name] = uci.loading[name] || callGet(name)
          .then((values) => { uci.values[name] = values; return name; })
          .finally(() => { delete uci.loading[name]; });
        return uci.loading[name];
      }));
    },
    unload(names) {
      L.toArray(names).forEach((name) => {
        [uci.values, uci.creates, uci.sets, uci.deletes].forEach((state) => { delete state[name]; });
      });
    },
    // Copies, with changed options; but options that were removed are still there.
    sections(config, type) {
      if (!uci.values[config]) return [];
      const deleted = uci.deletes[config] || {};
      const stored = Object.entries(uci.values[config]).filter(([id]) => deleted[id] !== true)
        .map(([id, section]) => ({ ...section, ...(uci.sets[config] || {})[id] }));
      const created = Object.values(uci.creates[config] || {}).map((section) => ({ ...section }));
      return [...stored, ...created].filter((section) => !type || section['.type'] === type)
        .sort((one, other) => one['.index'] - other['.index']);
    },
    // Without a name the section itself, into which changes are put for good.
    get(config, id, name) {
      const created = (uci.creates[config] || {})[id];
      if (created) return name == null ? created : created[name];
      const deleted = (uci.deletes[config] || {})[id];
      const stored = (uci.values[config] || {})[id];
      const changed = (uci.sets[config] || {})[id] || {};
      if (name == null) {
        if (deleted === true || !stored) return null;
        Object.assign(stored, changed);
        Object.keys(deleted || {}).forEach((option) => { delete stored[option]; });
        return stored;
      }
      if (deleted && (deleted === true || deleted[name])) return null;
      if (changed[name] != null) return changed[name];
      return stored ? stored[name] : null;
    },
    add(config, type, name) {
      const id = name || `new${Math.random().toString(16).substring(2)}`;
      (uci.creates[config] = uci.creates[config] || {})[id] =
        { '.type': type, '.name': id, '.create': name, '.anonymous': !name, '.index': 1000 + Object.keys(uci.creates[config]).length };
      return id;
    },
    remove(config, id) {
      if ((uci.creates[config] || {})[id]) delete uci.creates[config][id];
      else if ((uci.values[config] || {})[id]) {
        (uci.deletes[config] = uci.deletes[config] || {})[id] = true;
        if (uci.sets[config]) delete uci.sets[config][id];
      }
    },
    set(config, id, name, value) {
      const created = (uci.creates[config] || {})[id];
      const stored = (uci.values[config] || {})[id];
      const deleted = (uci.deletes[config] || {})[id];
      if (created) {
        if (value == null) delete created[name];
        else created[name] = value;
      } else if (value != null && value !== '') {
        // What is not there is not made.
        if (!stored || deleted === true) return;
        if (deleted) delete deleted[name];
        uci.sets[config] = uci.sets[config] || {};
        (uci.sets[config][id] = uci.sets[config][id] || {})[name] = value;
      } else {
        if ((uci.sets[config] || {})[id]) delete uci.sets[config][id][name];
        if (stored && name in stored && deleted !== true) {
          uci.deletes[config] = uci.deletes[config] || {};
          (uci.deletes[config][id] = deleted || {})[name] = true;
        }
      }
    },
    unset(config, id, name) { return uci.set(config, id, name, null); },
    async save() {
      const touched = new Set([...Object.keys(uci.creates), ...Object.keys(uci.sets), ...Object.keys(uci.deletes)]);
      const tasks = [];
      for (const [config, sections] of Object.entries(uci.creates)) {
        for (const section of Object.values(sections)) {
          const values = Object.fromEntries(Object.entries(section).filter(([key]) => !key.startsWith('.')));
          tasks.push(callAdd(config, section['.type'], section['.create'], values));
        }
      }
      for (const [config, sections] of Object.entries(uci.sets)) {
        for (const [id, values] of Object.entries(sections)) {
          if (Object.keys(values).length) tasks.push(callSet(config, id, values));
        }
      }
      for (const [config, sections] of Object.entries(uci.deletes)) {
        for (const [id, names] of Object.entries(sections)) {
          if (names === true) tasks.push(callDelete(config, id));
          else if (Object.keys(names).length) tasks.push(callDelete(config, id, Object.keys(names)));
        }
      }
      await Promise.all(tasks);
      uci.unload([...touched]);
      return uci.load([...touched]);
    },
    async apply() {
      const code = await callApply(10, true);
      return code === 0 ? callConfirm() : code;
    },
  };

  // --- fs ---

  const callExec = rpc.declare({ object: 'file', method: 'exec', params: ['command', 'params', 'env'] });
  const names = [null, 'InvalidCommandError', 'InvalidArgumentError', 'MethodNotFoundError', 'NotFoundError',
    'NoDataError', 'PermissionError', 'TimeoutError', 'UnsupportedError'];

  const fs = {
    async exec(command, parameters, environment) {
      const answer = await callExec(command, parameters || null, environment || null);
      if (typeof answer === 'number' && answer !== 0) {
        const error = new Error(rpc.getStatusText(answer));
        error.name = names[answer] || 'Error';
        throw error;
      }
      if (!L.isObject(answer)) throw new TypeError('Unexpected reply data format');
      return answer;
    },
    async exec_direct(command, parameters, type) {
      const quote = (word) => String(word).replace(/\\/g, '\\\\').replace(/(\s)/g, '\\$1');
      const line = [command, ...(parameters || [])].map(quote).join(' ');
      const response = await fetch(`${L.env.cgi_base}/cgi-exec`, {
        method: 'POST',
        headers: { 'Content-Type': 'application/x-www-form-urlencoded' },
        body: `sessionid=${encodeURIComponent(L.env.sessionid)}&command=${encodeURIComponent(line)}&stderr=0`,
      });
      if (response.status !== 200) {
        const error = new Error(response.statusText);
        error.name = { 400: 'InvalidArgumentError', 403: 'PermissionError', 404: 'NotFoundError' }[response.status] || 'Error';
        throw error;
      }
      return type === 'json' ? JSON.parse(await response.text()) : response.text();
    },
  };

  // --- poll ---

  const poll = {
    queue: [], tick: 0,
    add(callback, interval) {
      poll.queue.push({ callback, interval, running: false });
      if (!poll.timer) poll.timer = window.setInterval(poll.step, 1000);
    },
    step() {
      poll.tick += 1;
      for (const entry of poll.queue) {
        if (poll.tick % entry.interval || entry.running) continue;
        entry.running = true;
        Promise.resolve(entry.callback()).finally(() => { entry.running = false; });
      }
    },
  };

  // --- ui ---

  const datatypes = { string: () => true, uciname: (value) => /^[a-zA-Z0-9_]+$/.test(value) };

  const ui = {
    // There is one dialog, whose content stays when it is hidden.
    showModal(title, children, ...classes) {
      if (!document.getElementById('modal_overlay')) {
        document.body.appendChild(E('div', { id: 'modal_overlay' }, [E('div', { role: 'dialog' })]));
      }
      const box = document.getElementById('modal_overlay').firstChild;
      box.setAttribute('class', ['modal', ...classes].join(' '));
      dom.content(box, E('h4', {}, title));
      dom.append(box, children);
      document.body.classList.add('modal-overlay-active');
      return box;
    },
    hideModal() {
      document.body.classList.remove('modal-overlay-active');
    },
    addNotification(title, children, ...classes) {
      const text = E('div', {});
      const box = E('div', { class: ['alert-message', 'fade-in', ...classes].join(' ') },
        [text, E('button', { class: 'btn', click: () => box.remove() }, ['Dismiss'])]);
      if (title != null) dom.append(text, E('h4', {}, title));
      dom.append(text, children);
      document.getElementById('maincontent').prepend(box);
      return box;
    },
    createHandlerFn(self, method, ...values) {
      const call = typeof method === 'string' ? self[method] : method;
      if (typeof call !== 'function') return null;
      return (event) => {
        const button = event.currentTarget;
        button.classList.add('spinning');
        button.disabled = true;
        button.blur();
        Promise.resolve(call.call(self, ...values, event)).finally(() => {
          button.classList.remove('spinning');
          button.disabled = false;
        });
      };
    },
    // Validates the field only on events, and only while it is part of the page.
    addValidator(field, type, optional, check, ...events) {
      if (!datatypes[type]) throw new Error(`no data type ${type}`);
      const validate = () => {
        if (!field.isConnected && !field.closest('[data-field]')) return true;
        field.classList.remove('cbi-input-invalid');
        const value = field.value != null ? field.value : '';
        let fault = null;
        if (value.length === 0) fault = optional ? null : 'Expecting: non-empty value';
        else if (!datatypes[type](value)) fault = `Expecting: ${type}`;
        if (!fault && check) {
          const right = check(value);
          if (right !== true) fault = right;
        }
        if (fault) {
          field.classList.add('cbi-input-invalid');
          field.setAttribute('data-tooltip', fault);
        } else {
          field.removeAttribute('data-tooltip');
        }
        field.dispatchEvent(new CustomEvent(fault ? 'validation-failure' : 'validation-success',
          { bubbles: true, detail: { message: fault } }));
        return !fault;
      };
      events.forEach((event) => field.addEventListener(event, validate));
      validate();
      return validate;
    },
  };

  ui.AbstractElement = Base.extend({
    __init__(value, options) {
      this.value = value;
      this.options = { optional: true, ...options };
    },
    isValid() { return this.validState !== false; },
    getValidationError() { return this.validationError || ''; },
    triggerValidation() { return this.check ? this.check() : false; },
    bind(node, field, updates, changes) {
      this.node = node;
      if (this.options.validate) {
        this.check = ui.addValidator(field, 'string', this.options.optional, this.options.validate, ...updates);
        node.addEventListener('validation-success', () => { this.validState = true; this.validationError = ''; });
        node.addEventListener('validation-failure', (event) => {
          this.validState = false;
          this.validationError = event.detail.message;
        });
      }
      changes.forEach((event) => field.addEventListener(event, () =>
        node.dispatchEvent(new CustomEvent('widget-change', { bubbles: true }))));
      dom.bindClassInstance(node, this);
      return node;
    },
  });

  ui.Textfield = ui.AbstractElement.extend({
    render() {
      this.input = E('input', {
        id: `widget.${this.options.id}`, type: 'text', class: 'cbi-input-text', value: this.value,
        placeholder: this.options.placeholder, disabled: this.options.disabled || null,
      });
      return this.bind(E('div', { id: this.options.id }, [this.input]), this.input, ['keyup', 'blur'], ['change']);
    },
    getValue() { return this.input.value; },
  });

  ui.Checkbox = ui.AbstractElement.extend({
    render() {
      this.input = E('input', {
        id: `widget.${this.options.id}`, type: 'checkbox', disabled: this.options.disabled || null,
        checked: this.value === this.options.value_enabled ? '' : null,
      });
      return this.bind(E('div', { id: this.options.id }, [this.input]), this.input, ['click', 'blur'], ['change']);
    },
    isChecked() { return this.input.checked; },
  });

  ui.Select = ui.AbstractElement.extend({
    render() {
      const { choices } = this.options;
      this.input = E('select', { id: `widget.${this.options.id}`, disabled: this.options.disabled || null },
        Object.entries(choices).map(([key, label]) =>
          E('option', { value: key, selected: key === this.value ? '' : null }, [label])));
      return this.bind(E('div', { id: this.options.id }, [this.input]), this.input, ['change', 'click', 'blur'], ['change']);
    },
    getValue() { return this.input.value; },
  });

  // One or more choices. As in LuCI, the node's value is all of them in one string.
  ui.Dropdown = ui.AbstractElement.extend({
    render() {
      const list = E('ul', {});
      const node = E('div', { id: this.options.id, class: 'cbi-dropdown' }, [list]);
      const chosen = L.toArray(this.value);
      for (const [key, label] of Object.entries(this.options.choices)) {
        const item = E('li', { 'data-value': key, selected: chosen.includes(key) ? '' : null }, [label]);
        item.addEventListener('click', () => {
          if (this.options.disabled) return;
          if (!this.options.multiple) list.querySelectorAll('li').forEach((one) => one.removeAttribute('selected'));
          item.toggleAttribute('selected', this.options.multiple ? undefined : true);
          node.value = this.selected().join(' ');
          node.dispatchEvent(new CustomEvent('cbi-dropdown-close'));
          node.dispatchEvent(new CustomEvent('cbi-dropdown-change'));
        });
        list.appendChild(item);
      }
      this.list = list;
      node.value = this.selected().join(' ');
      return this.bind(node, node, ['cbi-dropdown-close'], ['cbi-dropdown-change']);
    },
    selected() {
      return [...this.list.querySelectorAll('li[selected]')].map((item) => item.dataset.value);
    },
    getValue() { return this.options.multiple ? this.selected() : (this.selected()[0] ?? null); },
  });

  // The outer node has no value, so its validator gets an empty string. Each item is validated separately.
  ui.DynamicList = ui.AbstractElement.extend({
    render() {
      const input = E('input', { type: 'text', class: 'cbi-input-text', disabled: this.options.disabled || null });
      const node = E('div', { id: this.options.id, class: 'cbi-dynlist' }, [E('div', { class: 'add-item' }, [input])]);
      const add = (value) => {
        const item = E('div', { class: 'item', 'data-value': value }, [E('span', {}, [value])]);
        item.addEventListener('click', () => { item.remove(); node.dispatchEvent(new CustomEvent('cbi-dynlist-change')); });
        node.insertBefore(item, node.lastChild);
      };
      L.toArray(this.value).forEach(add);
      ui.addValidator(input, 'string', true, this.options.validate, 'blur', 'keyup');
      input.addEventListener('keydown', (event) => {
        if (event.key !== 'Enter' || input.value === '' || input.classList.contains('cbi-input-invalid')) return;
        add(input.value);
        input.value = '';
        node.dispatchEvent(new CustomEvent('cbi-dynlist-change'));
      });
      return this.bind(node, node, ['cbi-dynlist-change'], ['cbi-dynlist-change']);
    },
    // What is typed but not yet an item counts too.
    getValue() {
      const values = [...this.node.querySelectorAll('.item')].map((item) => item.dataset.value);
      const typed = this.node.querySelector('.add-item > input').value;
      return typed.trim() && !values.includes(typed) ? [...values, typed] : values;
    },
  });

  // --- form ---

  const form = {};
  const callAccess = rpc.declare({
    object: 'session', method: 'access', params: ['scope', 'object', 'function'], expect: { access: false },
  });

  function same(one, other) {
    if (Array.isArray(one) || Array.isArray(other)) {
      return Array.isArray(one) && Array.isArray(other) && one.length === other.length &&
        one.every((value, index) => value === other[index]);
    }
    return one === other || (one == null && other == null);
  }

  form.Map = Base.extend({
    __init__(config, title, description) {
      Object.assign(this, { config, title, description, data: uci, children: [] });
    },
    section(Class, ...values) {
      const section = new Class(this, ...values);
      this.children.push(section);
      return section;
    },
    async load() {
      const tasks = [uci.load(this.config)];
      if (this.readonly == null) {
        tasks.push(callAccess('uci', this.config, 'write').then((may) => { if (!may) this.readonly = true; }));
      }
      await Promise.all(tasks);
      await Promise.all(this.children.map((section) => section.load()));
    },
    parse() {
      return Promise.all(this.children.map((section) => section.parse()));
    },
    async save(callback, silent) {
      this.checkDepends();
      try {
        await this.parse();
        if (callback) await callback();
        await uci.save();
        await this.load();
      } catch (error) {
        if (!silent) {
          ui.showModal('Save error', [
            E('p', {}, ['An error occurred while saving the form:']),
            E('p', {}, [E('em', { style: 'white-space:pre-wrap' }, [error.message])]),
            E('div', { class: 'right' }, [E('button', { class: 'cbi-button', click: ui.hideModal }, ['Dismiss'])]),
          ]);
        }
        throw error;
      }
      return this.renderContents();
    },
    reset() { return this.renderContents(); },
    async render() {
      await this.load();
      return this.renderContents();
    },
    async renderContents() {
      this.root = this.root || E('div', { id: `cbi-${this.config}`, class: 'cbi-map' });
      dom.bindClassInstance(this.root, this);
      const nodes = await Promise.all(this.children.map((section) => section.render()));
      dom.content(this.root, [
        this.title ? E('h2', {}, this.title) : '',
        this.description ? E('div', { class: 'cbi-map-descr' }, this.description) : '',
        ...nodes,
      ]);
      this.checkDepends();
      return this.root;
    },
    checkDepends() {
      this.children.forEach((section) => section.checkDepends());
    },
  });

  const Section = Base.extend({
    setUp(map, type, title, description) {
      Object.assign(this, { map, config: map.config, sectiontype: type, title, description, children: [] });
    },
    filter: () => true,
    tab(name, title) {
      this.tabs = this.tabs || [];
      this.tabs.push({ name, title });
    },
    option(Class, ...values) {
      const option = new Class(this.map, this, ...values);
      this.children.push(option);
      return option;
    },
    taboption(tab, Class, ...values) {
      if (!(this.tabs || []).some((one) => one.name === tab)) throw new Error(`no tab ${tab}`);
      const option = this.option(Class, ...values);
      option.tab = tab;
      return option;
    },
    async load() {
      for (const id of this.cfgsections()) {
        for (const option of this.children) option.cfgvalue(id, await option.load(id));
      }
    },
    parse() {
      return Promise.all(this.cfgsections().flatMap((id) => this.children.map((option) => option.parse(id))));
    },
    checkDepends() {
      for (const id of this.cfgsections()) this.children.forEach((option) => option.checkDepends(id));
    },
    frame() {
      return E('div', { class: 'cbi-section', id: `cbi-${this.config}-${this.sectiontype}` }, [
        this.title ? E('h3', {}, this.title) : '',
        this.description ? E('div', { class: 'cbi-section-descr' }, this.description) : '',
      ]);
    },
  });

  form.NamedSection = Section.extend({
    __init__(map, id, type, title, description) {
      this.setUp(map, type, title, description);
      this.section = id;
    },
    cfgsections() { return [this.section]; },
    async render() {
      const box = this.frame();
      const nodes = await Promise.all(this.children.map((option) => option.render(this.section)));
      if (!this.tabs) return dom.append(box, nodes);
      const menu = E('ul', { class: 'cbi-tabmenu' });
      const panes = this.tabs.map((tab, index) => {
        const pane = E('div', { 'data-tab': tab.name, class: index ? 'hidden' : '' },
          nodes.filter((_node, position) => this.children[position].tab === tab.name));
        const item = E('li', { 'data-tab': tab.name, class: index ? '' : 'cbi-tab' }, [tab.title]);
        item.addEventListener('click', () => {
          menu.querySelectorAll('li').forEach((one) => one.classList.toggle('cbi-tab', one === item));
          panes.forEach((one) => one.classList.toggle('hidden', one !== pane));
        });
        menu.appendChild(item);
        return pane;
      });
      return dom.append(box, [menu, ...panes]);
    },
  });

  // Rows of text; a dialog with its own map edits copies of the options.
  form.GridSection = Section.extend({
    __init__(map, type, title, description) {
      this.setUp(map, type, title, description);
    },
    cfgsections() {
      return uci.sections(this.config, this.sectiontype).map((section) => section['.name']).filter((id) => this.filter(id));
    },
    handleAdd(event, name) {
      const id = uci.add(this.config, this.sectiontype, name);
      this.map.addedSection = id;
      return this.renderMoreOptionsModal(id);
    },
    handleRemove(id) {
      uci.remove(this.config, id);
      return this.map.save(null, true);
    },
    parse() {
      return Promise.all(this.cfgsections().flatMap((id) => this.children
        .filter((option) => option.editable && !option.modalonly).map((option) => option.parse(id))));
    },
    async render() {
      const box = this.frame();
      const columns = this.children.filter((option) => !option.modalonly);
      const table = E('table', { class: 'table cbi-section-table' }, [
        E('tr', { class: 'tr' }, [
          E('th', { class: 'th' }, ['Name']),
          ...columns.map((option) => E('th', { class: 'th' }, option.title)),
          E('th', { class: 'th' }),
        ]),
      ]);
      for (const id of this.cfgsections()) {
        const cells = await Promise.all(columns.map(async (option) => {
          if (option.editable) return E('td', { class: 'td', 'data-name': option.option }, [await option.render(id, true)]);
          const text = option.textvalue(id);
          return E('td', { class: 'td', 'data-name': option.option }, text != null ? text : E('em', 'none'));
        }));
        table.appendChild(E('tr', { class: 'tr', 'data-sid': id }, [
          E('td', { class: 'td' }, [id]), ...cells,
          E('td', { class: 'td' }, [
            E('button', { class: 'cbi-button cbi-button-edit', click: ui.createHandlerFn(this, 'renderMoreOptionsModal', id) }, ['Edit']),
            this.addremove ? E('button', {
              class: 'cbi-button cbi-button-remove', disabled: this.map.readonly || null,
              click: ui.createHandlerFn(this, 'handleRemove', id),
            }, ['Delete']) : '',
          ]),
        ]));
      }
      box.appendChild(table);
      if (this.addremove) {
        const name = E('input', { type: 'text', class: 'cbi-section-create-name', disabled: this.map.readonly || null });
        const add = E('button', {
          class: 'cbi-button cbi-button-add', disabled: true,
          click: ui.createHandlerFn(this, (event) =>
            (name.classList.contains('cbi-input-invalid') ? null : this.handleAdd(event, name.value))),
        }, [this.addbtntitle || 'Add']);
        box.appendChild(E('div', { class: 'cbi-section-create' }, [name, add]));
        if (this.map.readonly !== true) {
          ui.addValidator(name, 'uciname', true, (value) => {
            add.disabled = value === '';
            return value !== '' || 'Expecting: non-empty value';
          }, 'blur', 'keyup');
        }
      }
      return box;
    },
    async renderMoreOptionsModal(id) {
      const map = new form.Map(this.config);
      map.readonly = this.map.readonly;
      const section = map.section(form.NamedSection, id, this.sectiontype);
      for (const original of this.children) {
        if (original.modalonly === false) continue;
        const copy = section.option(original.constructor, original.option, original.title, original.description);
        for (const [key, value] of Object.entries(original)) {
          if (!['map', 'section', 'option', 'title', 'description'].includes(key)) copy[key] = value;
        }
      }
      const close = (saved) => {
        if (this.map.addedSection != null && !saved) uci.remove(this.config, this.map.addedSection);
        delete this.map.addedSection;
        ui.hideModal();
      };
      const save = () => map.save(null, true)
        .then(() => this.map.load()).then(() => this.map.reset()).then(() => close(true)).catch(() => {});
      if (this.addModalOptions) await this.addModalOptions(section, id);
      const node = await map.render();
      ui.showModal(this.modaltitle ? this.modaltitle(id) : id, [
        node,
        E('div', { class: 'right' }, [
          E('button', { class: 'cbi-button', click: () => close(false) }, ['Dismiss']), ' ',
          E('button', {
            class: 'cbi-button cbi-button-positive important', disabled: map.readonly || null,
            click: ui.createHandlerFn(this, save),
          }, ['Save']),
        ]),
      ], 'cbi-modal');
    },
  });

  form.Value = Base.extend({
    __init__(map, section, option, title, description) {
      Object.assign(this, {
        map, section, option, title: title || '', description: description || '', deps: [], rmempty: true, optional: false,
      });
      if (this.setUp) this.setUp();
    },
    depends(option, value) { this.deps.push({ option, value }); },
    value(key, label) {
      this.keylist = this.keylist || [];
      this.vallist = this.vallist || [];
      this.keylist.push(String(key));
      this.vallist.push(dom.elem(label) ? label : String(label != null ? label : key));
    },
    choices() {
      return Object.fromEntries((this.keylist || []).map((key, index) => [key, this.vallist[index]]));
    },
    cbid(id) { return `cbid.${this.map.config}.${id}.${this.option}`; },
    load(id) { return uci.get(this.map.config, id, this.option); },
    cfgvalue(id, ...set) {
      this.loaded = this.loaded || {};
      if (set.length) [this.loaded[id]] = set;
      return this.loaded[id];
    },
    widget(id) {
      const node = this.map.root.querySelector(`[id="${this.cbid(id)}"]`);
      const element = node ? dom.findClassInstance(node) : null;
      return element instanceof ui.AbstractElement ? element : null;
    },
    getUIElement(id) { return this.widget(id); },
    formvalue(id) {
      const element = this.widget(id);
      return element ? element.getValue() : null;
    },
    textvalue(id) {
      const value = this.cfgvalue(id) ?? this.default;
      return value == null ? null : '%h'.format(Array.isArray(value) ? value.join(' ') : value);
    },
    validate: () => true,
    isValid(id) {
      const element = this.widget(id);
      return element ? element.isValid() : true;
    },
    getValidationError(id) {
      const element = this.widget(id);
      return element ? element.getValidationError() : '';
    },
    field(id) { return this.map.root ? this.map.root.querySelector(`[data-field="${this.cbid(id)}"]`) : null; },
    isActive(id) {
      const field = this.field(id);
      return field !== null && !field.classList.contains('hidden');
    },
    checkDepends(id) {
      const field = this.field(id);
      if (!field || !this.deps.length) return;
      const met = this.deps.some(({ option, value }) => {
        const other = this.section.children.find((one) => one.option === option);
        return other && other.formvalue(id) === value;
      });
      field.classList.toggle('hidden', !met);
    },
    async parse(id) {
      if (!this.isActive(id)) return this.remove(id);
      if (!this.isValid(id)) {
        throw new TypeError(`Option "${this.title || this.option}" contains an invalid input value. ${this.getValidationError(id)}`);
      }
      const value = this.formvalue(id);
      if (value == null || value == '') { // eslint-disable-line eqeqeq
        if (this.rmempty || this.optional) return this.remove(id);
        throw new TypeError(`Option "${this.title || this.option}" must not be empty.`);
      }
      return same(this.cfgvalue(id), value) ? undefined : this.write(id, value);
    },
    write(id, value) { return uci.set(this.map.config, id, this.option, value); },
    remove(id) { return uci.unset(this.map.config, id, this.option); },
    common(id) {
      return {
        id: this.cbid(id), optional: this.optional || this.rmempty, placeholder: this.placeholder,
        validate: this.validate.bind(this, id), choices: this.choices(),
        disabled: this.readonly != null ? this.readonly : this.map.readonly,
      };
    },
    renderWidget(id, value) { return new ui.Textfield(Array.isArray(value) ? value.join(' ') : value, this.common(id)).render(); },
    async render(id, inTable) {
      const value = this.cfgvalue(id);
      const widget = await this.renderWidget(id, value != null ? value : this.default);
      const field = inTable
        ? E('div', { 'data-field': this.cbid(id) }, [widget])
        : E('div', { class: 'cbi-value', 'data-field': this.cbid(id), 'data-name': this.option }, [
          E('label', { class: 'cbi-value-title', for: `widget.${this.cbid(id)}` }, this.title),
          E('div', { class: 'cbi-value-field' }, [
            widget, this.description ? E('div', { class: 'cbi-value-description' }, this.description) : '',
          ]),
        ]);
      field.addEventListener('widget-change', () => this.map.checkDepends());
      return field;
    },
  });

  form.Flag = form.Value.extend({
    setUp() { Object.assign(this, { enabled: '1', disabled: '0', default: '0' }); },
    renderWidget(id, value) {
      return new ui.Checkbox(value, { ...this.common(id), value_enabled: this.enabled }).render();
    },
    formvalue(id) {
      const element = this.widget(id);
      return element && element.isChecked() ? this.enabled : this.disabled;
    },
    textvalue(id) { return (this.cfgvalue(id) ?? this.default) === this.enabled ? 'Yes' : 'No'; },
    async parse(id) {
      if (!this.isActive(id)) return this.remove(id);
      const value = this.formvalue(id);
      return value === this.default && (this.optional || this.rmempty) ? this.remove(id) : this.write(id, value);
    },
  });

  form.ListValue = form.Value.extend({
    renderWidget(id, value) { return new ui.Select(value, this.common(id)).render(); },
  });

  form.DynamicList = form.Value.extend({
    renderWidget(id, value) { return new ui.DynamicList(L.toArray(value), this.common(id)).render(); },
  });

  form.MultiValue = form.DynamicList.extend({
    renderWidget(id, value) { return new ui.Dropdown(L.toArray(value), { ...this.common(id), multiple: true }).render(); },
  });

  form.Button = form.Value.extend({
    renderWidget(id) {
      const button = E('button', {
        class: `cbi-button cbi-button-${this.inputstyle || 'button'}`,
        disabled: (this.readonly != null ? this.readonly : this.map.readonly) || null,
        click: ui.createHandlerFn(this, (event) => this.onclick(event, id)),
      }, [this.inputtitle]);
      return E('div', { id: this.cbid(id) }, [button]);
    },
    formvalue: () => '',
  });

  // --- firewall, network and their widgets ---

  const firewall = {
    getZones: () => uci.load('firewall').then(() =>
      uci.sections('firewall', 'zone').map((zone) => ({ getName: () => zone.name }))),
  };
  const network = {
    getNetworks: () => uci.load('network').then(() =>
      uci.sections('network', 'interface').map((one) => ({ getName: () => one['.name'] }))),
  };
  const widgets = {
    ZoneSelect: form.ListValue.extend({
      async load(id) {
        [this.zones] = await Promise.all([firewall.getZones(), network.getNetworks()]);
        return form.Value.prototype.load.call(this, id);
      },
      renderWidget(id, value) {
        if (!this.nocreate || this.multiple || this.allowlocal) throw new Error('this fake does not support this kind of ZoneSelect');
        const choices = this.allowany ? { '*': E('strong', 'Any zone') } : {};
        this.zones.forEach((zone) => { choices[zone.getName()] = E('strong', zone.getName()); });
        return new ui.Dropdown(value, { ...this.common(id), choices }).render();
      },
    }),
  };

  // --- view ---

  const View = Base.extend({
    async __init__() {
      const place = document.getElementById('view');
      try {
        const data = await this.load();
        dom.content(place, await this.render(data));
        dom.append(place, this.addFooter());
        place.dataset.ready = 'true';
      } catch (error) {
        console.error(error);
        dom.content(place, [E('p', { class: 'alert-message error', id: 'view-error' }, [error.message])]);
      }
    },
    load() {},
    maps: () => [...document.querySelectorAll('#maincontent .cbi-map')],
    handleSave() { return Promise.all(this.maps().map((map) => dom.callClassMethod(map, 'save'))); },
    handleSaveApply(event) { return this.handleSave(event).then(() => uci.apply()); },
    handleReset() { return Promise.all(this.maps().map((map) => dom.callClassMethod(map, 'reset'))); },
    addFooter() {
      const button = (name, label) => (this[name]
        ? E('button', { class: 'cbi-button', id: name, click: ui.createHandlerFn(this, (event) => this[name](event).catch(() => {})) }, [label])
        : '');
      return E('div', { class: 'right' },
        [button('handleSaveApply', 'Save & Apply'), button('handleSave', 'Save'), button('handleReset', 'Reset')]);
    },
  });

  const ready = (module) => () => Promise.resolve(module);
  const builtin = {
    baseclass: ready(Base), dom: ready(dom), rpc: ready(rpc), uci: ready(uci), fs: ready(fs), poll: ready(poll),
    baseclass: ready(Base), ui: ready(ui), form: ready(form), view: ready(View), firewall: ready(firewall), network: ready(network),
    'tools.widgets': ready(widgets),
    // LuCI ships a part of this library, where the SVG has a width and a height but no viewBox.
    uqr: () => import('/fakes/npm/uqr.mjs').then((library) => ({
      renderSVG(text, options) {
        const picture = library.renderSVG(text, options);
        return picture.replace(/viewBox="0 0 (\d+) (\d+)"/, 'width="$1" height="$2"');
      },
    })),
  };

  load(`view.${window.environment.view.replace(/\//g, '.')}`).catch((error) => {
    console.error(error);
    dom.content(document.getElementById('view'), [E('p', { id: 'view-error' }, [error.message])]);
  });
})();
