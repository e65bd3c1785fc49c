// What the browser tests share: the browser, programs that are started and ended, and waiting for what comes about.

import { spawn } from 'node:child_process';
import { createRequire } from 'node:module';
import { readFileSync } from 'node:fs';
import { createServer } from 'node:net';

const require = createRequire(process.env.MODULES);
const { chromium } = require('playwright-core');
const AXE = readFileSync(require.resolve('axe-core/axe.min.js'), 'utf8');

/** However busy the machine is. */
export const PATIENCE = 180_000;

export const browser = () => chromium.launch({ executablePath: '/usr/bin/chromium', args: ['--no-sandbox'] });

export function freePort() {
  return new Promise((resolve) => {
    const server = createServer().listen(0, '127.0.0.1', () => {
      const { port } = server.address();
      server.close(() => resolve(port));
    });
  });
}

/** Starts the program; answers when one of its lines fits. */
export async function start(args, fits, env = {}) {
  const child = spawn(process.env.PROGRAM, args, { env: { ...process.env, ...env }, stdio: ['ignore', 'pipe', 'pipe'] });
  let text = '';
  const ready = new Promise((resolve, reject) => {
    const look = (bytes) => {
      text += bytes;
      const found = text.match(fits);
      if (found) resolve(found);
    };
    child.stdout.on('data', look);
    child.stderr.on('data', look);
    child.on('exit', (code) => reject(new Error(`the program ended with ${code}:\n${text}`)));
  });
  ready.catch(() => {});
  const found = await ready;
  return {
    found,
    lines: () => text,
    stop: (signal = 'SIGTERM') => new Promise((resolve) => {
      if (child.exitCode !== null || child.signalCode !== null) return resolve();
      child.on('exit', resolve);
      child.kill(signal);
    }),
  };
}

/** Waits until `ask` answers something that is true; tells what was there last where it never does. */
export async function until(what, ask) {
  const end = Date.now() + PATIENCE;
  let last;
  while (Date.now() < end) {
    try {
      last = await ask();
      if (last) return last;
    } catch (error) {
      last = error;
    }
    await new Promise((resolve) => { setTimeout(resolve, 50); });
  }
  throw new Error(`${what}: did not come about; last: ${last}`);
}

/** What axe finds, in words. */
export async function violations(page) {
  // The page's own policy forbids scripts that are put in; the devtools may all the same.
  await page.evaluate(AXE);
  const found = await page.evaluate(() => globalThis.axe.run(document, { resultTypes: ['violations'] }));
  return found.violations.map((one) => `${one.id}: ${one.nodes.map((node) => node.target.join(' ')).slice(0, 3).join(', ')}`);
}
