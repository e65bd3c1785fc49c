// Opens the pages of a site in Chromium, uses the button as people do, and prints what was seen as one JSON document.
import { createRequire } from "node:module";
import path from "node:path";

const { chromium } = createRequire(path.join(process.env.NODE_MODULES, "index.js"))("playwright-core");
const site = process.argv[2];
const browser = await chromium.launch({ executablePath: process.env.CHROMIUM || "/usr/bin/chromium", args: ["--no-sandbox"] });
const seen = { foreign: [], errors: [] };

async function context(settings) {
  const context = await browser.newContext({ viewport: { width: 360, height: 640 }, ...settings });
  // The messenger's own site is not asked: what counts is the address.
  await context.route("https://max.ru/**", (route) => route.fulfill({ contentType: "text/html", body: "MAX" }));
  return context;
}

async function opened(page, how) {
  const [tab] = await Promise.all([page.context().waitForEvent("page"), how()]);
  const address = tab.url();
  await tab.close();
  return address;
}

async function visit(where) {
  const page = await (await context({})).newPage();
  page.on("pageerror", (error) => seen.errors.push(String(error)));
  page.on("request", (request) => request.url().startsWith(site) || seen.foreign.push(request.url()));
  await page.goto(site + where);
  const region = page.getByRole("complementary");
  const link = region.getByRole("link");
  const byClick = await opened(page, () => link.click());
  await page.locator("h1").click();
  await page.keyboard.press("Tab");
  if (!(await link.evaluate((node) => node === document.activeElement))) seen.errors.push(`${where}: Tab does not reach the button`);
  const byKeyboard = await opened(page, () => page.keyboard.press("Enter"));
  const box = await link.boundingBox();
  if (box.x < 0 || box.x + box.width > 360 || box.height < 44) seen.errors.push(`${where}: the button does not fit ${JSON.stringify(box)}`);
  const snapshot = await region.ariaSnapshot();
  const name = /link "([^"]*)"/.exec(snapshot)?.[1];
  const label = await region.getAttribute("aria-label");
  const greeting = await region.locator("p").textContent();
  return { name, region: label, greeting, byClick, byKeyboard };
}

try {
  seen.order = await visit("/order");
  seen.english = await visit("/en/" + encodeURIComponent("заказ №1"));
  seen.plain = await visit("/plain");
  const silent = await (await context({ javaScriptEnabled: false })).newPage();
  await silent.goto(site + "/order");
  seen.withoutScripts = await silent.getByRole("link").getAttribute("href");
  console.log(JSON.stringify(seen));
} finally {
  await browser.close();
}
