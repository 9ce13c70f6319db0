// A browser, a router, and one page between them, for a test.
'use strict';

const assert = require('node:assert/strict');
const fs = require('node:fs');
const { createRequire } = require('node:module');
const path = require('node:path');
const { after, before } = require('node:test');

const { Router } = require('../fakes/luci/router.js');

const MODULES = process.env.PKD_LUCI_MODULES;
if (!MODULES) throw new Error('PKD_LUCI_MODULES must name the folder where `npm ci` ran; `cargo xtask luci` does that');
const requireModule = createRequire(path.join(MODULES, 'package.json'));

// The most that any one thing may take, in milliseconds.
const LIMIT = 15000;

let browser;
let page;

// Starts the browser before the tests of a file, and ends it after them.
function useBrowser() {
  before(async () => {
    const puppeteer = requireModule('puppeteer-core');
    browser = await puppeteer.launch({
      executablePath: process.env.PKD_LUCI_CHROMIUM || '/usr/bin/chromium',
      // Its sandbox refuses root.
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

  // The text that people see; an element that is not there has none.
  text(selector) {
    return this.page.evaluate((one) => {
      const node = document.querySelector(one);
      return node ? node.innerText : null;
    }, selector);
  }

  // Rows of a table without its head, each a list of cells.
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

  // Puts a text into a field in place of what is there, with the events of a keyboard, and leaves it.
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

// Runs `body` with a page of a fresh router, which is another origin to the browser. faults: the test provokes failures that the browser itself logs.
async function withPage(menuPath, options, body) {
  const { faults, ...routerOptions } = options;
  const router = await new Router({ modules: MODULES, ...routerOptions }).listen();
  const tab = new Tab(router);
  try {
    await tab.open(menuPath);
    await body(tab, router);
    const errors = tab.errors.filter((error) => !(faults && /^Failed to load resource/.test(error)));
    assert.deepEqual(errors, [], 'errors on the console');
  } finally {
    await tab.leave();
    await router.close();
  }
}

const STATUS = 'admin/services/pkd/status';
const CONFIG = 'admin/services/pkd/config';

module.exports = { CONFIG, LIMIT, STATUS, requireModule, useBrowser, withPage };
