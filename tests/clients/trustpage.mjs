// The trust page in a browser: on a phone and on a desktop, light and dark.
//
//   node trustpage.mjs PACKAGE_DIR URL PICTURES_DIR
//
// Prints one JSON object a view: the requests that went anywhere but the page itself, what the page logged, whether it has to be
// scrolled sideways, and what axe-core finds. The pictures are for people.
import { createRequire } from 'node:module';
import { join } from 'node:path';

const [dir, url, pictures] = process.argv.slice(2);
const require = createRequire(join(dir, 'node_modules', 'x.js'));
const puppeteer = require('puppeteer-core');
const axe = require.resolve('axe-core/axe.min.js');

const browser = await puppeteer.launch({
  executablePath: process.env.CHROMIUM ?? '/usr/bin/chromium',
  args: ['--no-sandbox', '--disable-gpu', '--disable-dev-shm-usage', '--no-first-run'],
});
try {
  for (const [name, width, height] of [['phone', 390, 844], ['desktop', 1280, 900]]) {
    for (const scheme of ['light', 'dark']) {
      const page = await browser.newPage();
      const [elsewhere, logged] = [[], []];
      await page.setViewport({ width, height, deviceScaleFactor: 1, isMobile: name === 'phone' });
      await page.emulateMediaFeatures([{ name: 'prefers-color-scheme', value: scheme }]);
      await page.setRequestInterception(true);
      page.on('request', (request) => {
        if (request.url() !== url) elsewhere.push(request.url());
        request.continue();
      });
      page.on('console', (message) => logged.push(message.text()));
      page.on('pageerror', (error) => logged.push(String(error)));
      await page.goto(url, { waitUntil: 'networkidle0' });
      const asked = [...elsewhere];
      const look = () => page.evaluate(() => ({
        background: getComputedStyle(document.body).backgroundColor,
        sideways: document.documentElement.scrollWidth - document.documentElement.clientWidth,
        height: document.documentElement.scrollHeight,
      }));
      const closed = await look();
      await page.screenshot({ path: join(pictures, `trust-${name}-${scheme}.png`), fullPage: true });
      // Everything unfolded is looked at as well.
      await page.evaluate(() => document.querySelectorAll('details').forEach((one) => { one.open = true; }));
      const open = await look();
      // The page allows no script of its own, so this one comes in by the debugger.
      await page.setBypassCSP(true);
      const source = (await import('node:fs')).readFileSync(axe, 'utf8');
      const findings = await page.evaluate(async (text) => {
        (0, eval)(text);
        const { violations, passes } = await window.axe.run(document);
        return { passes: passes.length, violations: violations.map(({ id, impact, nodes }) => `${impact} ${id}: ${nodes.map((n) => n.html).join(' | ')}`) };
      }, source);
      console.log(JSON.stringify({ name, scheme, elsewhere: asked, logged, closed, open, ...findings }));
      await page.close();
    }
  }
} finally {
  await browser.close();
}
