// A person at a browser: headless Chromium, driven by puppeteer-core.
//
//   node consent.mjs PACKAGE_DIR PROFILE_DIR USER URL [CODE]
//
// Visits URL, types CODE where one is asked for, logs in as USER, and consents; until a page has no form. Prints the last page as one line
// of JSON: its address, its HTTP status, its title and its text.
import { createRequire } from 'node:module';
import { writeFileSync } from 'node:fs';

const [dir, profile, user, url, code] = process.argv.slice(2);
const puppeteer = createRequire(`${dir}/node_modules/`)('puppeteer-core');

const browser = await puppeteer.launch({
  executablePath: process.env.CHROMIUM ?? '/usr/bin/chromium',
  userDataDir: profile,
  args: ['--no-sandbox', '--disable-gpu', '--disable-dev-shm-usage', '--no-first-run'],
});
try {
  const page = await browser.newPage();
  page.setDefaultTimeout(25000);
  let answer = await page.goto(url);
  // A code, its confirmation, name and password, the consent; each is one form.
  for (let forms = 0; forms < 6; forms++) {
    const button = await page.$('[type=submit]');
    if (!button) break;
    const type = async (name, text) => {
      const field = await page.$(`input[name=${name}]:not([type=hidden])`);
      if (!field) return;
      await field.evaluate((input) => { input.value = ''; });
      await field.type(text);
    };
    if (code) await type('user_code', code);
    await type('login', user);
    await type('password', 'any');
    [answer] = await Promise.all([page.waitForNavigation(), button.click()]);
  }
  const told = { address: page.url(), status: answer?.status(), title: await page.title(), text: await page.evaluate(() => document.body.innerText) };
  console.log(JSON.stringify(told));
  if (process.env.BROWSER_LOG) writeFileSync(process.env.BROWSER_LOG, JSON.stringify(told));
} finally {
  await browser.close();
}
