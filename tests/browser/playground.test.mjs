// The playground of `maxchannel demo` in a real browser.

import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import http from 'node:http';
import { after, before, test } from 'node:test';
import { PATIENCE, browser, freePort, start, until, violations } from './support.mjs';

const HOSTILE = [
  '<script>globalThis.hacked = 1</script>',
  '<img src=x onerror="globalThis.hacked=1"><b>bold</b>',
  '"><svg onload=globalThis.hacked=1>',
  '\u202Eevil\u202C مرحبا 👩‍👩‍👧‍👦🇷🇺',
  'x'.repeat(4000),
];

let port;
let demo;
let chromium;
let page;
const wrong = [];

const launch = () => start(['demo', '--lang', 'en', '--listen', `127.0.0.1:${port}`], /The playground\s+(http:\S+)/);
const url = () => `http://127.0.0.1:${port}/`;

async function open(options = {}) {
  const context = await chromium.newContext({ locale: 'en-US', viewport: { width: 1400, height: 1000 }, ...options });
  const opened = await context.newPage();
  opened.setDefaultTimeout(PATIENCE);
  opened.on('pageerror', (error) => wrong.push(`${error}`));
  opened.on('request', (request) => { if (!request.url().startsWith(url())) wrong.push(`asks ${request.url()}`); });
  opened.on('console', (message) => { if (/Content Security Policy|Refused/.test(message.text())) wrong.push(message.text()); });
  await opened.goto(url());
  await until('the page is filled', () => opened.locator('.phone').count());
  return opened;
}

const texts = (where, from = page) => from.locator(`${where} .message .text`).allTextContents();
const phone = (index) => page.locator('.phone').nth(index);
const phoneTexts = (index, from = page) => from.locator('.phone').nth(index).locator('.message .text').allTextContents();
const has = (list, text) => list.includes(text);

async function write(index, text) {
  await phone(index).locator('textarea').fill(text);
  await phone(index).getByRole('button', { name: 'Send' }).click();
}

/** Many messages of a customer at once. */
const burst = (index, count) => page.evaluate(async ([at, many]) => {
  const { act } = await import('/app.js');
  const user = Number(document.querySelectorAll('.phone')[at].id.slice('phone'.length));
  await act({ do: 'burst', user, count: many });
}, [index, count]);

/** Shows a customer's dialog on the desk. */
async function chooseDialog(index) {
  const name = await phone(index).locator('h3').textContent();
  await page.locator('#chats button', { hasText: name }).click();
}

/** The agent who may takes the dialog that is shown. */
async function acceptDialog() {
  await until('an agent has it', async () => {
    for (const option of await page.locator('#agent option').allTextContents()) {
      await page.locator('#agent').selectOption({ label: option });
      // It may be taken in the moment between.
      if (await page.locator('#accept').isEnabled()) await page.locator('#accept').click({ timeout: 2000 }).catch(() => {});
      if (await page.locator('#close').isEnabled()) return true;
    }
    return false;
  });
}

async function endDialog(index) {
  const closings = async () => (await phoneTexts(index)).filter((text) => text.startsWith('Спасибо за обращение!')).length;
  const before = await closings();
  await chooseDialog(index);
  await acceptDialog();
  await page.locator('#close').click();
  await until('it is closed', async () => (await closings()) > before);
}

async function picture(name) {
  if (process.env.PICTURES_FOLDER) await page.screenshot({ path: `${process.env.PICTURES_FOLDER}/${name}.png` });
}

/** Asks as no page of ours would. */
function raw(path, { method = 'GET', headers = {}, body = '' } = {}) {
  return new Promise((resolve, reject) => {
    const request = http.request({ host: '127.0.0.1', port, path, method, headers }, (answer) => {
      answer.resume();
      answer.on('end', () => resolve(answer));
    });
    request.on('error', reject);
    request.end(body);
  });
}

before(async () => {
  port = await freePort();
  [demo, chromium] = await Promise.all([launch(), browser()]);
  page = await open();
});

after(async () => {
  await chromium?.close();
  await demo?.stop();
});

test('a customer writes, an agent accepts, answers, transfers and closes', async () => {
  await until('the auto-reply', async () => has(await phoneTexts(0), 'Здравствуйте! Ищем свободного оператора.'));
  await until('a countdown to the next reply', () => phone(0).locator('.next li').count());
  await write(0, 'Где мой заказ?');
  await until('the question is on the desk', async () => has(await texts('#conversation'), 'Где мой заказ?'));
  await page.locator('#accept').click();
  await until('the agent may answer', () => page.locator('#agentText').isEnabled());
  await page.locator('#agentText').fill('Уже в пути!');
  await page.locator('#agentText').press('Enter');
  await until('the answer is on the phone', async () => has(await phoneTexts(0), 'Уже в пути!'));
  await until('and reported', async () => (await page.locator('#conversation').textContent()).includes('delivered'));
  await until('no reply comes any more', async () => (await phone(0).locator('.next li').count()) === 0);
  await phone(0).locator('input[type=file]').setInputFiles({ name: 'счёт.pdf', mimeType: 'application/pdf', buffer: Buffer.from('%PDF') });
  await until('the file is on the desk', async () => (await page.locator('#conversation a').allTextContents()).some((text) => text.includes('счёт.pdf')));
  await picture('stage');
  await page.locator('#transfer').click();
  await until('the other agent is called', async () => (await page.locator('#chats').textContent()).includes('Пётр') || (await page.locator('#chats').textContent()).includes('Мария'));
  const options = await page.locator('#agent option').allTextContents();
  await page.locator('#agent').selectOption({ label: options[1] });
  if (await page.locator('#accept').isEnabled()) await page.locator('#accept').click();
  await until('he may close', () => page.locator('#close').isEnabled());
  await page.locator('#close').click();
  await until('the close message', async () => (await phoneTexts(0)).some((text) => text.startsWith('Спасибо за обращение!')));
  await page.locator('#agent').selectOption({ label: options[0] });
});

test('a hostile text from either side is text', async () => {
  for (const text of HOSTILE) {
    await write(1, text);
    await until(`on the phone: ${text.slice(0, 20)}`, async () => has(await phoneTexts(1), text));
  }
  await page.locator('#chats button').nth(1).click();
  await until('on the desk', async () => has(await texts('#conversation'), HOSTILE[0]));
  for (const option of await page.locator('#agent option').allTextContents()) {
    await page.locator('#agent').selectOption({ label: option });
    if (await page.locator('#accept').isEnabled()) {
      await page.locator('#accept').click();
      await until('accepted', () => page.locator('#agentText').isEnabled());
    }
    if (await page.locator('#agentText').isEnabled()) break;
  }
  for (const text of HOSTILE) {
    await page.locator('#agentText').fill(text);
    await page.locator('#agentText').press('Enter');
    await until('sent', async () => (await page.locator('#agentText').inputValue()) === '');
  }
  await until('the answers are on the phone', async () => (await phoneTexts(1)).filter((text) => text === HOSTILE[0]).length === 2);
  assert.equal(await page.evaluate(() => globalThis.hacked), undefined);
  assert.equal(await page.locator('.message img, .message script, .message svg, .message b').count(), 0);
});

test('each fault shows its condition with cause and remedy beside it', async () => {
  for (const [fault, reason] of [
    ['tokenNotFound', 'TokenNotFound'], ['tokenInvalid', 'TokenInvalid'], ['botUnderModeration', 'BotUnderModeration'],
    ['legalEntityAccessDenied', 'LegalEntityAccessDenied'], ['authorizationFailed', 'AuthorizationFailed'],
    ['receiverNotSelected', 'ReceiverNotSelected'], ['autoRepliesNotConfigured', 'AutoRepliesNotConfigured'],
    ['packageMissing', 'PackageMissing'], ['packageOutdated', 'PackageOutdated'], ['crmDown', 'CrmUnreachable'],
  ]) {
    await page.locator(`#fault-${fault}`).click();
    const seen = await until(`${fault} shows ${reason}`, async () => {
      const text = await page.locator(`#seen-${fault}`).textContent();
      return text.includes(reason) && text;
    });
    assert.match(seen, /Cause: .*Remedy: .*Who mends it: /s, fault);
    if (fault === 'tokenInvalid') {
      await page.locator('#between').scrollIntoViewIfNeeded();
      await page.locator(`#seen-${fault}`).scrollIntoViewIfNeeded();
      await picture('condition');
    }
    await page.locator(`#fault-${fault}`).click();
    await until(`${fault} is over`, async () => !(await page.locator('#conditions').textContent()).includes(reason));
  }
});

test('what is sent while the relay is dead arrives when it runs again', async () => {
  await page.locator('#fault-relayKilled').click();
  await until('nobody answers', async () => (await page.locator('#figure-running').textContent()) === 'does not run');
  await write(1, 'Вы тут?');
  await page.locator('#mend').click();
  await until('it arrives', async () => has(await texts('#conversation'), 'Вы тут?'));
  assert.equal((await texts('#conversation')).filter((text) => text === 'Вы тут?').length, 1);
});

test('in the evening and on a holiday the off-hours reply is sent, and the manifest stays as it is', async () => {
  const clock = () => page.locator('#figure-clock').textContent();
  const manifest = await page.locator('#manifestText').inputValue();
  const replies = async () => (await phoneTexts(0)).filter((text) => text.startsWith('Мы ответим в рабочее время')).length;
  assert.match(await clock(), /working hours/);
  for (const fault of ['evening', 'holiday']) {
    const before = await replies();
    await page.locator(`#fault-${fault}`).click();
    await until('the company is closed', async () => (await clock()).includes('closed'));
    await write(0, `Вы ещё работаете? ${fault}`);
    await until(`the off-hours reply: ${fault}`, async () => (await replies()) > before);
    await endDialog(0);
  }
  await until('one at a time', async () => !(await page.locator('#fault-evening').isChecked()));
  await page.locator('#mend').click();
  await until('the present again', async () => (await clock()).includes('working hours'));
  assert.equal(await page.locator('#manifestText').inputValue(), manifest);
  const before = (await phoneTexts(0)).filter((text) => text.startsWith('Здравствуйте! Ищем')).length;
  await write(0, 'А теперь?');
  await until('the usual reply', async () => (await phoneTexts(0)).filter((text) => text.startsWith('Здравствуйте! Ищем')).length > before);
  await until('it arrives', async () => has(await texts('#conversation'), 'А теперь?'));
  await endDialog(0);
});

test('a bot takes the dialogs, and while it is away the agents do', async () => {
  const answers = async () => (await phoneTexts(0)).filter((text) => text === 'Я бот. Чем помочь?').length;
  await page.locator('#fault-botTakesDialogs').click();
  await until('the bot is the receiver', async () => (await page.locator('#manifestText').inputValue()).includes('bot:'));
  // What is written before the runner has read the manifest again is still the agents'.
  await until('the bot answers', async () => {
    await write(0, 'Есть кто?');
    const at = Date.now() + 5000;
    while (Date.now() < at) if ((await answers()) === 1) return true;
    await endDialog(0);
    return false;
  });
  await phone(0).getByRole('button', { name: 'Где мой заказ?' }).last().click();
  await until('and again, to its button', async () => (await answers()) === 2);
  await page.locator('#fault-botAway').click();
  await write(0, 'А человек есть?');
  const seen = await until('the fallback serves', async () => {
    const text = await page.locator('#seen-botAway').textContent();
    return text.includes('FallbackServing') && text;
  });
  assert.match(seen, /Cause: .*Remedy: .*Who mends it: /s);
  await chooseDialog(0);
  await until('the agents have it', async () => has(await texts('#conversation'), 'А человек есть?'));
  await page.locator('#mend').click();
  await until('as before', async () => !(await page.locator('#manifestText').inputValue()).includes('bot:'));
  await endDialog(0);
});

test('a lost subscription is made again, and what came meanwhile arrives once', async () => {
  await chooseDialog(1);
  await page.locator('#fault-subscriptionLost').click();
  await until('there is none', async () => (await page.locator('#figure-subscription').textContent()) === 'none');
  await write(1, 'Пока вас не было');
  await until('made again', async () => (await page.locator('#figure-subscription').textContent()) === 'there');
  await until('the switch is off by itself', async () => !(await page.locator('#fault-subscriptionLost').isChecked()));
  await until('it arrives', async () => has(await texts('#conversation'), 'Пока вас не было'));
  assert.equal((await texts('#conversation')).filter((text) => text === 'Пока вас не было').length, 1);
});

test('where answers are cut nothing comes twice', async () => {
  await chooseDialog(1);
  await page.locator('#fault-answersCut').click();
  await until('on', () => page.locator('#fault-answersCut').isChecked());
  const told = ['Раз', 'Два', 'Три'];
  for (const text of told) await write(1, text);
  await acceptDialog();
  await page.locator('#agentText').fill('Вас слышно');
  await page.locator('#agentText').press('Enter');
  await until('the answer is on the phone', async () => has(await phoneTexts(1), 'Вас слышно'));
  await until('reported', async () => !(await page.locator('#conversation').textContent()).includes('on its way'));
  for (const text of told) await until(`${text} arrives`, async () => has(await texts('#conversation'), text));
  await page.locator('#mend').click();
  assert.deepEqual((await texts('#conversation')).filter((text) => told.includes(text)), told);
  assert.equal((await phoneTexts(1)).filter((text) => text === 'Вас слышно').length, 1);
});

test('a slow CRM shows as a backlog, and everything arrives in order', async () => {
  await chooseDialog(1);
  await page.locator('#fault-crmSlow').click();
  await until('on', () => page.locator('#fault-crmSlow').isChecked());
  await burst(1, 60);
  const seen = await until('the backlog', async () => {
    const text = await page.locator('#seen-crmSlow').textContent();
    return text.includes('Backlog') && text;
  });
  assert.match(seen, /Cause: .*Remedy: .*Who mends it: /s);
  assert.notEqual(await page.locator('#figure-toCrm').textContent(), '0');
  await page.locator('#mend').click();
  const numbers = Array.from({ length: 60 }, (_, index) => `№ ${index + 1}`);
  await until('all are there', async () => (await texts('#conversation')).filter((text) => text.startsWith('№ ')).length >= 60);
  assert.deepEqual((await texts('#conversation')).filter((text) => text.startsWith('№ ')), numbers);
  await endDialog(1);
});

test('the manifest is checked at the line and applied at once', async () => {
  await page.locator('#tabs a').nth(1).click();
  const area = page.locator('#manifestText');
  const text = await area.inputValue();
  await area.fill(text.replace('after: 1s', 'after: soon'));
  const finding = await until('a finding', async () => (await page.locator('#findings li.error').allTextContents())[0]);
  const line = text.split('\n').findIndex((one) => one.includes('after: 1s')) + 1;
  assert.match(finding, new RegExp(`^line ${line}: spec.autoReplies`));
  assert.equal(await page.locator('#lines li.bad').textContent(), String(line));
  await picture('manifest');
  await area.fill(text.replace('Ищем свободного оператора.', 'Одну минуту.'));
  await until('applied', async () => (await page.locator('#applied').textContent()) === 'Applied.');
  await page.locator('#firstManifest').click();
  await until('as it was', async () => !(await area.inputValue()).includes('Одну минуту.'));
});

test('the rules are told beforehand, and two versions compared', async () => {
  await page.locator('#tabs a').nth(2).click();
  await until('the week', () => page.locator('#week svg').count());
  await until('the timeline', async () => (await page.locator('#timeline tbody tr').count()) > 2);
  await page.locator('#remember').click();
  await page.locator('#tabs a').nth(1).click();
  const text = await page.locator('#manifestText').inputValue();
  await page.locator('#manifestText').fill(text.replace('after: 2m', 'after: 5m'));
  await until('applied', async () => (await page.locator('#applied').textContent()) === 'Applied.');
  await page.locator('#tabs a').nth(2).click();
  await until('what is new is marked', () => page.locator('#timeline tr.added').count());
  await picture('rules');
  await page.locator('#forget').click();
  await page.locator('#tabs a').nth(1).click();
  await page.locator('#firstManifest').click();
  const shown = () => page.locator('#manifestText').inputValue();
  await until('the first manifest is back', async () => (await shown()).includes('after: 2m') && !(await shown()).includes('after: 5m'));
});

test('axe finds nothing, in light and dark, wide and narrow, in both languages', async () => {
  const all = ['stage', 'manifest', 'rules', 'install'];
  for (const [scheme, width, language, views] of [['light', 1400, 'en', all], ['dark', 1400, 'ru', ['stage']], ['light', 390, 'ru', ['stage']], ['dark', 390, 'ru', all]]) {
    await page.emulateMedia({ colorScheme: scheme, reducedMotion: 'reduce' });
    await page.setViewportSize({ width, height: 900 });
    if ((await page.locator('html').getAttribute('lang')) !== language) await page.locator('#language').click();
    for (const view of views) {
      await page.evaluate((name) => { location.hash = `#${name}`; }, view);
      await until('shown', () => page.locator(`#view${view[0].toUpperCase()}${view.slice(1)}`).isVisible());
      assert.deepEqual(await violations(page), [], `${scheme} ${width} ${language} ${view}`);
      const across = await page.evaluate(() => document.documentElement.scrollWidth - document.documentElement.clientWidth);
      assert.ok(across <= 0, `${view} at ${width} is ${across} px too wide`);
    }
    await page.evaluate(() => { location.hash = '#stage'; });
    await until('shown', () => page.locator('#viewStage').isVisible());
    if (width === 390 && scheme === 'light') await picture('narrow');
    if (width === 1400 && scheme === 'dark') await picture('stage-ru-dark');
  }
  await page.emulateMedia({ colorScheme: 'light' });
  await page.setViewportSize({ width: 1400, height: 1000 });
});

test('the tour is told in eight steps, by the keyboard alone', async () => {
  if ((await page.locator('html').getAttribute('lang')) !== 'en') await page.locator('#language').click();
  await page.locator('#tourButton').focus();
  await page.keyboard.press('Enter');
  for (let step = 1; step <= 8; step += 1) {
    await until(`step ${step}`, async () => (await page.locator('#tourCount').textContent()) === `Step ${step} of 8`);
    await page.locator('#tourDo').focus();
    await page.keyboard.press('Enter');
    await until(`step ${step} is played`, () => page.locator('#tourDo').isEnabled());
    if (step === 6) {
      await until('error 1', async () => (await page.locator('#conditions').textContent()).includes('TokenNotFound'));
      await picture('tour');
    }
    if (step < 8) {
      await until('there is a next one', () => page.locator('#tourNext').isEnabled());
      await page.locator('#tourNext').focus();
      await page.keyboard.press('Enter');
    }
  }
  await until('the off-hours reply', async () => (await phoneTexts(0)).some((text) => text.startsWith('Мы ответим в рабочее время')));
  await page.keyboard.press('Escape');
  await until('over', async () => !(await page.locator('#tour').isVisible()));
});

test('two tabs show the same, with a thousand messages in them', async () => {
  const other = await open();
  const before = (await phoneTexts(0)).length;
  await burst(0, 1000);
  for (const tab of [page, other]) {
    await until('all are there', async () => (await tab.locator('.phone').first().locator('.message').count()) >= before + 1000);
  }
  await other.locator('.phone').nth(1).locator('textarea').fill('Из второй вкладки');
  await other.locator('.phone').nth(1).getByRole('button', { name: 'Send' }).click();
  await until('the first tab sees it', async () => has(await phoneTexts(1), 'Из второй вкладки'));
  await other.context().close();
});

test('another site in the same browser reaches nothing', async () => {
  const own = { origin: `http://127.0.0.1:${port}`, 'x-maxchannel-page': '1', 'content-type': 'application/json' };
  const act = { method: 'POST', body: JSON.stringify({ do: 'mend' }) };
  assert.equal((await raw('/api/act', { ...act, headers: own })).statusCode, 200);
  for (const [name, headers] of [
    ['no header of ours', { ...own, 'x-maxchannel-page': undefined }], ['another origin', { ...own, origin: 'http://evil.example' }],
    ['no origin', { ...own, origin: undefined }], ['another site', { ...own, 'sec-fetch-site': 'cross-site' }],
    ['another name', { ...own, host: `evil.example:${port}` }],
  ]) {
    const sent = Object.fromEntries(Object.entries(headers).filter(([, value]) => value !== undefined));
    assert.equal((await raw('/api/act', { ...act, headers: sent })).statusCode, 403, name);
  }
  for (const path of ['/', '/api/events', '/app.js']) {
    assert.equal((await raw(path, { headers: { host: `evil.example:${port}` } })).statusCode, 403, path);
  }
  const { headers } = await raw('/');
  assert.match(headers['content-security-policy'], /default-src 'none'.*frame-ancestors 'none'/);
  assert.equal(headers['access-control-allow-origin'], undefined);
  const framed = await page.context().newPage();
  await framed.setContent(`<iframe src="${url()}"></iframe>`);
  const frame = await until('an answer to the frame', () => framed.frames()[1]);
  assert.equal(await frame.locator('.phone').count(), 0);
  await framed.close();
});

test('the status page of the runner tells how the channels stand, and acts for nobody without its token', async () => {
  const [, address, file] = demo.lines().match(/the status page is (\S+); its token is in (\S+)/);
  const status = await page.context().newPage();
  status.setDefaultTimeout(PATIENCE);
  status.on('pageerror', (error) => wrong.push(`${error}`));
  await status.goto(address);
  const section = status.getByRole('region', { name: 'demo/orders' });
  await until('the revoked token of the second channel', async () => (await section.textContent()).includes('TokenInvalid'));
  assert.match(await section.textContent(), /Cause: .*Remedy: .*Who mends it: /s);
  assert.ok(!(await status.locator('main').textContent()).includes('Где мой заказ?'), 'no text of anybody');
  assert.deepEqual(await violations(status), []);
  if (process.env.PICTURES_FOLDER) await status.screenshot({ path: `${process.env.PICTURES_FOLDER}/status.png` });
  const ask = (path, options) => status.evaluate(async ([where, how]) => (await fetch(where, how)).status, [path, options]);
  const replay = (headers) => ask('/ui/replay', {
    method: 'POST', headers: { 'content-type': 'application/json', 'x-maxchannel-page': '1', ...headers },
    body: JSON.stringify({ namespace: 'demo', name: 'support', ids: [] }),
  });
  assert.equal(await replay({}), 401);
  const token = readFileSync(file, 'utf8').trim();
  assert.equal(await replay({ authorization: `Bearer ${token}` }), 200);
  assert.ok(!(await status.content()).includes(token));
  const support = status.getByRole('region', { name: 'demo/support' });
  const link = status.locator('#link');
  await page.evaluate(() => { location.hash = '#stage'; });
  await page.locator('#fault-tokenInvalid').click();
  await until('it is told', async () => (await support.textContent()).includes('TokenInvalid'));
  await page.locator('#mend').click();
  await until('it is told that it is over', async () => !(await support.textContent()).includes('TokenInvalid'));
  await page.locator('#fault-relayKilled').click();
  await until('nobody answers', async () => (await link.getAttribute('class')) === 'lost');
  await page.locator('#mend').click();
  await until('found again', async () => (await link.textContent()) === 'live');
  await until('and told anew', async () => (await section.textContent()).includes('TokenInvalid'));
  await status.close();
});

test('the page is small', async () => {
  const names = ['', 'style.css', 'app.js', 'explorer.js', 'tour.js', 'words.js'];
  const sizes = await Promise.all(names.map(async (name) => (await (await fetch(url() + name)).text()).length));
  assert.ok(sizes.reduce((sum, size) => sum + size, 0) < 200_000, `${sizes}`);
});

test('a program that is stopped and started again is found again', async () => {
  await demo.stop();
  await until('the page says so', async () => (await page.locator('#link').getAttribute('class')).includes('lost'));
  demo = await launch();
  await until('live again', async () => (await page.locator('#link').textContent()) === 'live');
  await until('with its new customers', async () => (await phoneTexts(0)).some((text) => text.startsWith('Здравствуйте!')));
  await write(0, 'Снова здесь');
  await until('and works', async () => has(await phoneTexts(0), 'Снова здесь'));
});

test('nothing went wrong on the page meanwhile', () => assert.deepEqual(wrong, []));
