// A browser and a fake router, with one page, for a test.
'use strict';

const assert = require('node:assert/strict');
const fs = require('node:fs');
const { createRequire } = require('node:module');
const path = require('node:path');
const { after, before } = require('node:test');

const { Router } = require('../fakes/luci/router.js');

const MODULES = process.env.PKD_LUCI_MODULES;
if (!MODULES) throw new Error('PKD_LUCI_MODULES is not set: set it to the folder where `npm ci` ran, or use `cargo xtask luci`');
const requireModule = createRequire(path.join(MODULES, 'package.json'));

// The limit for each wait, in milliseconds.
const LIMIT = 15000;

let browser;
let page;

// Starts the browser before a file's tests and closes it after them.
function useBrowser() {
  before(async () => {
    const puppeteer = requireModule('puppeteer-core');
    browser = await puppeteer.launch({
      executablePath: process.env.PKD_LUCI_CHROMIUM || '/usr/bin/chromium',
      // chromium's sandbox does not run as root.
      args: [...(process.getuid() === 0 ? ['--no-sandbox'] : []), '--disable-gpu', '--disable-dev-shm-usage'],
      timeout: 60000,
    });
    page = await browser.newPage();
    await page.setViewport({ width: 1100, height: 900 });
    page.setDefaultTimeout(LIMIT);
  });
  after(async () => { if (browser) await browser.close(); });
}

class Tab {
  constructor(router) {
    this.page = page;
    this.router = router;
    this.errors = [];
    this.listeners = {
      console: (message) => {
        if (['error', 'warn', 'assert'].includes(message.type())) this.errors.push(message.text());
      },
      pageerror: (error) => this.errors.push(String(error)),
    };
    Object.entries(this.listeners).forEach(([event, listener]) => page.on(event, listener));
  }

  async leave() {
    await page.goto('about:blank');
    Object.entries(this.listeners).forEach(([event, listener]) => page.off(event, listener));
  }

  async open(menuPath) {
    await this.page.goto(this.router.page(menuPath));
    await this.page.waitForSelector('#view[data-ready], #view-error');
  }

  // The visible text; null for a missing element.
  text(selector) {
    return this.page.evaluate((one) => {
      const node = document.querySelector(one);
      return node ? node.innerText : null;
    }, selector);
  }

  // A table's rows without the header, each a list of cells.
  rows(selector) {
    return this.page.evaluate((one) => [...document.querySelectorAll(`${one} tr`)].slice(1)
      .map((row) => [...row.cells].map((cell) => cell.innerText)), selector);
  }

  count(selector) {
    return this.page.evaluate((one) => document.querySelectorAll(one).length, selector);
  }

  async wait(condition, ...values) {
    await this.page.waitForFunction(condition, { timeout: LIMIT, polling: 50 }, ...values);
  }

  waitForText(selector, text) {
    return this.wait((one, part) => (document.querySelector(one)?.innerText || '').includes(part), selector, text);
  }

  async click(selector) {
    await this.page.waitForSelector(selector, { visible: true });
    await this.page.click(selector);
  }

  // Replaces a field's text, with the events of keyboard input, and leaves the field.
  async fill(selector, text) {
    const field = await this.page.waitForSelector(selector, { visible: true });
    await field.focus();
    await field.evaluate((node, value) => { node.value = value; }, text);
    await field.press('End');
    await field.evaluate((node) => {
      node.dispatchEvent(new Event('input'));
      node.dispatchEvent(new Event('change'));
      node.blur();
    });
  }

  async shot(name, options = { fullPage: true }) {
    if (!process.env.PKD_LUCI_SHOTS) return;
    fs.mkdirSync(process.env.PKD_LUCI_SHOTS, { recursive: true });
    await this.page.screenshot({ path: path.join(process.env.PKD_LUCI_SHOTS, `${name}.png`), ...options });
  }
}

// Runs `body` with a page of a new router, which has its own origin. faults: the test causes failures that the browser
// itself logs.
async function withPage(menuPath, options, body) {
  const { faults, ...routerOptions } = options;
  const router = await new Router({ modules: MODULES, ...routerOptions }).listen();
  const tab = new Tab(router);
  try {
    await tab.open(menuPath);
    await body(tab, router);
    const errors = tab.errors.filter((error) => !(faults && /^Failed to load resource/.test(error)));
    assert.deepEqual(errors, [], 'the browser console has errors');
  } finally {
    await tab.leave();
    await router.close();
  }
}

const STATUS = 'admin/services/pkd/status';
const CONFIG = 'admin/services/pkd/config';

module.exports = { CONFIG, LIMIT, STATUS, requireModule, useBrowser, withPage };
