// A conversation between customers of the double and a bot built on the official TypeScript client of MAX.
//
// usage: MAX_URL=http://127.0.0.1:8701 node client.mjs polling|webhook
//
// The bot answers through the client; the customers act through the control of the double, and what they see is what is asserted.

import assert from 'node:assert/strict';
import { createServer } from 'node:net';
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Bot, FileAttachment, Keyboard, MaxError } from '@maxhub/max-bot-api';

const mode = process.argv[2];
const baseUrl = process.env.MAX_URL;
assert.ok(['polling', 'webhook'].includes(mode), 'usage: MAX_URL=… node client.mjs polling|webhook');
assert.ok(baseUrl, 'MAX_URL must name the double');

async function control(method, path, body) {
  const answer = await fetch(`${baseUrl}/control${path}`, { method, body: body && JSON.stringify(body) });
  const json = await answer.json();
  assert.equal(answer.status, 200, `${method} ${path}: ${JSON.stringify(json)}`);
  return json;
}

const token = `EXAMPLE_typescript_${mode}_${process.pid}`;
const { user_id: bot } = await control('POST', '/bots', { name: 'Служба поддержки', token });
const { user_id: user } = await control('POST', '/users', { first_name: 'Анна', last_name: 'Петрова' });
const stranger = (await control('POST', '/users', { first_name: 'Олег' })).user_id;
const act = (action) => control('POST', '/dialog', { user, bot, action });
const write = (draft) => control('POST', '/write', { user, bot, ...draft });
const transcript = (atLeast) => control('GET', `/transcript?user=${user}&bot=${bot}&at_least=${atLeast}&timeout_ms=20000`);

const seen = [];
const subject = new Bot(token, { clientOptions: { baseUrl } });
subject.catch((error) => { throw error; });
subject.use((context, next) => { seen.push(context.updateType); return next(); });
subject.on('bot_started', (context) => context.reply(`Здравствуйте, ${context.user.first_name}! ${context.startPayload}`));
subject.hears('меню', (context) => context.reply('Что *показать*?', {
  format: 'markdown',
  attachments: [Keyboard.inlineKeyboard([[Keyboard.button.callback('Статус', 'status'), Keyboard.button.link('Сайт', 'https://acme.example')]])],
}));
subject.action('status', (context) => context.answerOnCallback({ notification: 'Смотрю', message: { text: 'Заказ в пути', attachments: [] } }));
subject.on('message_created', (context) => context.reply(`Вы написали: ${context.message.body.text}`));

// Two messages a second and dialog: the double refuses a third.
const breathe = () => new Promise((resolve) => setTimeout(resolve, 1100));

async function until(what, holds) {
  for (let waited = 0; !(await holds()); waited += 50) {
    assert.ok(waited < 20000, `not within 20 s: ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
}

async function freePort() {
  const server = createServer().listen(0, '127.0.0.1');
  await new Promise((resolve) => server.once('listening', resolve));
  const { port } = server.address();
  await new Promise((resolve) => server.close(resolve));
  return port;
}

// A foreign subscription, as an earlier installation leaves it: the client removes it in both modes.
await subject.api.subscribe('https://left-behind.example/hook', 'secret-of-old', ['message_created']);
let polling;
if (mode === 'polling') {
  polling = subject.start({ mode: 'polling' });
  // What happens while a subscription exists never reaches a poll.
  await until('the foreign subscription is removed', async () => (await subject.api.getSubscriptions()).length === 0);
} else {
  const port = await freePort();
  await control('POST', '/webhooks/route', { host: `typescript-${process.pid}.example`, base: `http://127.0.0.1:${port}` });
  await subject.start({ mode: 'webhook', options: { domain: `typescript-${process.pid}.example`, port, path: '/hook', secret: 'secret-1' } });
}

const me = await subject.api.getMyInfo();
assert.deepEqual([me.user_id, me.first_name, me.is_bot], [bot, 'Служба поддержки', true]);
await subject.api.setMyCommands([{ name: 'start', description: 'Начать' }]);

// The dialog.
const { chat_id: chat } = await act({ start: 'promo_7' });
let view = await transcript(1);
assert.equal(view.messages[0].text, 'Здравствуйте, Анна! promo_7');
await write({ text: 'Где заказ?' });
view = await transcript(3);
assert.deepEqual(view.messages.slice(1).map((message) => message.text), ['Где заказ?', 'Вы написали: Где заказ?']);
await breathe();
await write({ text: 'меню' });
view = await transcript(5);
const menu = view.messages[4];
assert.deepEqual(menu.markup, [{ type: 'emphasized', from: 4, length: 8 }]);
await control('POST', '/press', { user, mid: menu.mid, button: { payload: 'status' } });
await until('the press is answered', async () => (await transcript(0)).notifications.length > 0);
view = await transcript(5);
assert.equal(view.messages[4].text, 'Заказ в пути');
assert.equal(view.notifications[0][1], 'Смотрю');

// Attachments of all four kinds: from memory by multipart, from a file in chunks.
const folder = await mkdtemp(join(tmpdir(), 'max-client-'));
try {
  const content = Buffer.alloc(200_000, 'film');
  const path = join(folder, 'film.mp4');
  await writeFile(path, content);
  const sent = [
    ['image', (await subject.api.uploadImage({ source: Buffer.from('picture') })).toJson(), Buffer.from('picture')],
    ['video', (await subject.api.uploadVideo({ source: path })).toJson(), content],
    ['audio', { type: 'audio', payload: { token: (await subject.api.uploadAudio({ source: Buffer.from('voice') })).token } }, Buffer.from('voice')],
    ['file', { type: 'file', payload: { token: (await subject.api.uploadFile({ source: path })).token } }, content],
  ];
  // The client itself repeats what is not ready yet.
  await control('PATCH', '/switches', { not_ready_sends: 1 });
  const slow = await subject.api.uploadFile({ source: Buffer.from('slow') });
  await control('PATCH', '/switches', { not_ready_sends: 0 });
  sent.push(['file', { type: 'file', payload: { token: slow.token } }, Buffer.from('slow')]);
  for (const [kind, attachment, bytes] of sent) {
    await breathe();
    const message = await subject.api.sendMessageToUser(user, '', { attachments: [attachment] });
    assert.equal(message.body.attachments[0].type, kind);
    view = await transcript(1);
    const shown = view.messages.at(-1).attachments[0];
    const stored = await fetch(`${baseUrl}/control/files/${shown.file}`);
    assert.ok(Buffer.from(await stored.arrayBuffer()).equals(bytes), `the customer sees the bytes of the ${kind}`);
    if (kind === 'video') {
      // Version 0.3.1 of the client leaves the placeholder in the path of getVideoInfo, so the call is made by hand.
      const { token: video } = message.body.attachments[0].payload;
      const details = await (await fetch(`${baseUrl}/videos/${video}`, { headers: { Authorization: token } })).json();
      const film = await fetch(details.urls.mp4_720);
      assert.ok(Buffer.from(await film.arrayBuffer()).equals(await readFile(path)));
    }
  }
} finally {
  await rm(folder, { recursive: true });
}

// Messages afterwards.
await breathe();
const last = await subject.api.sendMessageToChat(chat, 'Черновик');
assert.equal((await subject.api.editMessage(last.body.mid, { text: 'Готово' })).success, true);
assert.equal((await subject.api.getMessage(last.body.mid)).body.text, 'Готово');
assert.equal((await subject.api.getMessages(chat, { count: 1 })).messages[0].body.mid, last.body.mid);
assert.equal((await subject.api.deleteMessage(last.body.mid)).success, true);
assert.equal((await subject.api.sendAction(chat, 'typing_on')).success, true);
const refused = (call, status, code) => assert.rejects(call, (error) => {
  assert.ok(error instanceof MaxError, String(error));
  assert.deepEqual([error.status, error.code], [status, code]);
  return true;
});
await refused(subject.api.sendMessageToUser(stranger, 'никто'), 404, 'dialog.not.found');
await refused(subject.api.getMessage(last.body.mid), 404, 'not.found');
await breathe();
await refused(subject.api.sendMessageToUser(user, '', { attachments: [new FileAttachment({ token: 'x' })].map(({ payload }) => ({ type: 'file', payload })) }), 400, 'proto.payload');

// The customer's other deeds arrive too.
await act('stop');
await until('bot_stopped arrives', () => seen.includes('bot_stopped'));
await breathe();
await refused(subject.api.sendMessageToUser(user, 'ещё'), 403, 'chat.denied');
const subscriptions = (await subject.api.getSubscriptions()).map(({ url }) => url);
assert.deepEqual(subscriptions, mode === 'polling' ? [] : [`https://typescript-${process.pid}.example/hook`]);

if (mode === 'polling') {
  subject.stopPolling();
  await polling;
} else {
  await subject.stopWebhook();
}
console.log(`official TypeScript client, ${mode}: ${seen.length} updates, ${[...new Set(seen)].sort().join(', ')}`);
