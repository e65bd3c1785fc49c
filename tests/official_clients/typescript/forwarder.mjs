// A bot on the official TypeScript client that forwards each message to the CRM, as its documents suggest; one of the peers that
// `make bench-peers` measures.

import { Bot } from '@maxhub/max-bot-api';

const { PORT, SECRET, TOKEN, MAX_URL, CRM_URL, IDENTITY_URL, CLIENT_ID, CLIENT_SECRET, CHANNEL_SOURCE } = process.env;
const form = new URLSearchParams({ grant_type: 'client_credentials', client_id: CLIENT_ID, client_secret: CLIENT_SECRET });
const { access_token: bearer } = await (await fetch(`${IDENTITY_URL}/connect/token`, { method: 'POST', body: form })).json();
const headers = { Authorization: `Bearer ${bearer}`, 'Content-Type': 'application/json', ForceUseSession: 'true' };

const bot = new Bot(TOKEN, { clientOptions: { baseUrl: MAX_URL } });
bot.catch((error) => console.error(`not forwarded: ${error.message}`));
bot.on('message_created', async ({ message }) => {
  const body = JSON.stringify({
    externalId: message.body.mid,
    channelSource: CHANNEL_SOURCE,
    sender: `max:${message.sender.user_id}`,
    name: message.sender.first_name,
    phone: '',
    timestamp: message.timestamp,
    direction: 'incoming',
    author: 'customer',
    text: message.body.text,
    type: 'text',
    replacesExternalId: '',
    standBy: false,
    attachments: [],
  });
  const answer = await fetch(`${CRM_URL}/rest/MaxChannelService/receive`, { method: 'POST', headers, body });
  if (!answer.ok) throw new Error(`the CRM answers ${answer.status}`);
  const said = await answer.json();
  if (!said.success) throw new Error(`the CRM says ${JSON.stringify(said)}`);
});
await bot.start({ mode: 'webhook', options: { domain: 'peer.example', port: Number(PORT), path: '/hook', secret: SECRET } });
