// A headless Chromium that a test drives line by line: a JSON command on standard input, its JSON answer on standard output.
//
//   MODULES=DIR node browser.mjs        DIR has puppeteer-core and axe-core
import { createRequire } from 'node:module';
import { createInterface } from 'node:readline';

const require = createRequire(process.env.MODULES + '/');
const puppeteer = require('puppeteer-core');
const axe = require('axe-core');

const WIDTHS = [390, 820, 1440];
const SCHEMES = ['light', 'dark'];

const browser = await puppeteer.launch({
  executablePath: process.env.CHROMIUM || '/usr/bin/chromium',
  // As root, as in CI, Chromium has no sandbox. Nothing of its own goes out: what is counted is the page's.
  args: ['--no-sandbox', '--disable-background-networking', '--disable-component-update', '--no-first-run'],
  headless: true,
});
const page = await browser.newPage();
const requests = [];
const complaints = [];
page.on('request', (request) => requests.push(request.url()));
page.on('pageerror', (error) => complaints.push(String(error)));
page.on('console', (message) => {
  if (['error', 'warn'].includes(message.type())) complaints.push(message.text());
});

const look = (scheme) => page.emulateMediaFeatures([{ name: 'prefers-color-scheme', value: scheme }]);

/** What the page shows of its first account, as numbers where it says them. */
const figures = () => page.evaluate(() => {
  const data = (place, at = 0) => {
    const found = document.querySelectorAll(`#a0-figures .${place} data`)[at];
    return found ? Number(found.value) : null;
  };
  const text = (id) => document.getElementById(id)?.innerText ?? null;
  return {
    state: text('a0-head'),
    overall: text('overall'),
    live: document.getElementById('live')?.dataset.state ?? null,
    connections: data('connections'),
    allowed: data('connections', 1),
    download: data('download'),
    upload: data('upload'),
    cache: data('cache'),
    hits: data('cache', 1),
    messages: data('mail'),
    hours: [...document.querySelectorAll('#a0-hours tbody td data')].map((cell) => Number(cell.value)),
    readings: [...document.querySelectorAll('#a0-state .readings li')].map((reading) => ({
      name: reading.querySelector('.name').textContent,
      words: reading.querySelector('.amount').textContent,
      value: reading.querySelector('progress').value,
      max: reading.querySelector('progress').max,
    })),
    programs: text('a0-clients'),
    events: text('a0-events'),
  };
});

const commands = {
  async open({ url, scripts = true }) {
    await page.setJavaScriptEnabled(scripts);
    const answer = await page.goto(url, { waitUntil: 'load' });
    return { status: answer.status(), policy: answer.headers()['content-security-policy'] };
  },
  figures,
  /** From now on every request says that a proxy has handed it on. */
  async afar() {
    await page.setExtraHTTPHeaders({ 'X-Forwarded-For': '192.0.2.1' });
    return null;
  },
  async text() {
    return page.evaluate(() => document.body.innerText);
  },
  async html() {
    return page.content();
  },
  async url() {
    return page.url();
  },
  async click({ selector }) {
    const moved = page.waitForNavigation({ waitUntil: 'load' });
    await page.click(selector);
    await moved;
    return page.url();
  },
  async type({ selector, text }) {
    await page.type(selector, text);
    return null;
  },
  /** Everything the keyboard reaches, in order, each as words. */
  async walk() {
    await page.evaluate(() => {
      document.activeElement?.blur();
      window.getSelection()?.removeAllRanges();
    });
    const seen = [];
    for (let step = 0; step < 60; step += 1) {
      await page.keyboard.press('Tab');
      const at = await page.evaluate(() => {
        const element = document.activeElement;
        if (!element || element === document.body) return null;
        const box = element.getBoundingClientRect();
        const style = getComputedStyle(element);
        return {
          words: `${element.localName} ${element.getAttribute('aria-label') ?? element.innerText}`.trim(),
          seen: box.width > 0 && box.height > 0 && box.right > 0,
          marked: style.outlineStyle !== 'none' && parseFloat(style.outlineWidth) >= 2,
        };
      });
      if (!at || (seen.length && at.words === seen[0].words)) break;
      seen.push(at);
    }
    return seen;
  },
  /** Puts the focus on the disclosure of this name and opens it by the keyboard. */
  async disclose({ words }) {
    await page.evaluate((wanted) => {
      const all = [...document.querySelectorAll('summary')];
      all.find((summary) => summary.innerText.trim() === wanted).focus();
    }, words);
    await page.keyboard.press('Enter');
    return commands.focus();
  },
  async focus() {
    return page.evaluate(() => ({
      words: document.activeElement?.innerText?.trim() ?? '',
      open: document.activeElement?.parentElement?.open ?? null,
    }));
  },
  /** What the accessibility checker finds, in both themes and on the narrowest and the widest screen. */
  async axe() {
    const found = [];
    for (const scheme of SCHEMES) {
      for (const width of [WIDTHS[0], WIDTHS[2]]) {
        await page.setViewport({ width, height: 900 });
        await look(scheme);
        // By the debugger's way in: the page's policy lets no foreign script in, and is not switched off for this.
        await page.evaluate(axe.source);
        const result = await page.evaluate(() => window.axe.run(document, { resultTypes: ['violations'] }));
        for (const violation of result.violations) {
          const where = violation.nodes.slice(0, 3).map((node) => node.target.join(' ')).join('; ');
          found.push({ scheme, width, id: violation.id, impact: violation.impact, where });
        }
      }
    }
    return found;
  },
  /** Pictures at all widths in both themes; whether anything stands out to the right of the screen. */
  async shots({ path }) {
    const wide = [];
    for (const scheme of SCHEMES) {
      for (const width of WIDTHS) {
        await page.setViewport({ width, height: 900 });
        await look(scheme);
        await page.screenshot({ path: `${path}-${width}-${scheme}.png`, fullPage: true });
        const over = await page.evaluate(() => document.documentElement.scrollWidth - window.innerWidth);
        if (over > 0) wide.push({ width, over });
      }
    }
    return wide;
  },
  async heard() {
    return { requests, complaints };
  },
};

console.log(JSON.stringify({ ready: true }));
for await (const line of createInterface({ input: process.stdin })) {
  const command = JSON.parse(line);
  try {
    const answer = await commands[command.do](command);
    console.log(JSON.stringify({ answer: answer ?? null }));
  } catch (error) {
    console.log(JSON.stringify({ error: String(error?.stack ?? error) }));
  }
}
await browser.close();
