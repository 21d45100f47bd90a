/** For who builds on geocrm: keys, webhooks, and requests to try. */

import { useEffect, useRef, useState } from 'preact/hooks';
import * as routes from '../api/routes';
import type { ApiKey, Webhook } from '../api/shapes';
import { Paged } from '../components/paged';
import { Empty, Failed, Loading } from '../components/states';
import { Icon } from '../design/icons';
import { ago } from '../format';
import { may } from '../segments/state';
import { usePages, useRemote } from '../state/remote';
import { show, state } from '../state/store';
import { KeyPage, NewKeyPage } from './key';
import { RequestsPage } from './requests';
import { open, stamp } from './state';
import { NewWebhookPage, WebhookPage } from './webhook';
import { health, inOrder, scopeName, standing } from './words';
import './developers.css';

export function DevelopersPanel() {
  const { tool } = state.value;
  const last = useRef<string | null>(null);
  // A page that was opened begins at its top, where its heading is; back in the list the keyboard goes on where it was.
  useEffect(() => {
    document.querySelector('.panel-scroll:not([hidden])')?.scrollTo({ top: 0 });
    const from = last.current;
    last.current = tool;
    const target = tool ? 'developers-title' : from && `open-${from}`;
    if (target) document.getElementById(target)?.focus({ preventScroll: true });
  }, [tool]);
  if (tool === null) return <Lists />;
  return (
    <div class="blocks">
      <button type="button" class="button plain back" onClick={() => open(null)}>
        <Icon name="back" />
        All for developers
      </button>
      <Tool key={tool} tool={tool} />
    </div>
  );
}

function Tool({ tool }: { tool: string }) {
  if (tool === 'requests') return <RequestsPage />;
  if (tool.startsWith('key_') || tool === 'new_key') {
    if (!may('keys:manage')) return <NotYours what="Keys" />;
    return tool === 'new_key' ? <NewKeyPage /> : <KeyPage id={tool} />;
  }
  if (!may('webhooks:manage')) return <NotYours what="Webhooks" />;
  return tool === 'new_webhook' ? <NewWebhookPage /> : <WebhookPage id={tool} />;
}

function NotYours({ what }: { what: string }) {
  return (
    <Empty title={`${what} are made by administrators`}>
      <p>Ask one of them. A key acts for one user: it sees at most what that user sees.</p>
    </Empty>
  );
}

function Lists() {
  return (
    <div class="blocks">
      <button type="button" class="button plain back" onClick={() => show({ panel: 'account' })}>
        <Icon name="back" />
        You
      </button>
      <section class="block" aria-labelledby="try-title">
        <h2 id="try-title">Try it</h2>
        <p class="small quiet">Requests to copy into a terminal or an app, and to run from here.</p>
        <div class="row-actions">
          <button type="button" id="open-requests" class="button primary" onClick={() => open('requests')}>
            Requests that run
          </button>
          <a class="button" href="/docs/">
            Every operation
          </a>
        </div>
      </section>
      {may('keys:manage') ? <Keys /> : <NotYours what="Keys and webhooks" />}
      {may('webhooks:manage') && <Webhooks />}
    </div>
  );
}

/** How many keys are listed before one asks for all. */
const FEW = 5;

function Keys() {
  const [remote, again] = useRemote(`keys ${stamp.value}`, routes.keys);
  const [whole, setWhole] = useState(false);
  const rows = remote.status === 'ready' ? inOrder(remote.data, new Date()) : [];
  return (
    <section class="block" aria-labelledby="keys-title">
      <div class="block-head">
        <h2 id="keys-title">API keys</h2>
        <button type="button" id="open-new_key" class="button" onClick={() => open('new_key')}>
          <Icon name="plus" />
          New key
        </button>
      </div>
      {remote.status === 'loading' && <Loading what="keys" />}
      {remote.status === 'failed' && <Failed problem={remote.problem} again={again} />}
      {remote.status === 'ready' && rows.length === 0 && (
        <Empty title="No keys yet">
          <p>A key lets a program in: it acts for one user, within the scopes that you give it.</p>
        </Empty>
      )}
      {rows.length > 0 && (
        <ul class="segmentations">
          {rows.slice(0, whole ? rows.length : FEW).map((key) => (
            <KeyRow key={key.id} row={key} />
          ))}
        </ul>
      )}
      {!whole && rows.length > FEW && (
        <button type="button" class="button" onClick={() => setWhole(true)}>
          All {rows.length} keys
        </button>
      )}
    </section>
  );
}

function KeyRow({ row }: { row: ApiKey }) {
  const word = standing(row, new Date());
  const used = row.last_used_at ? `last used ${ago(row.last_used_at)}` : 'not used in the last week';
  return (
    <li>
      <button type="button" id={`open-${row.id}`} class="segmentation" onClick={() => open(row.id)}>
        <strong>{row.name}</strong>
        <span class={word === 'Active' ? 'badge strong' : 'badge'}>{word}</span>
        <span class="small quiet">
          {[`for ${row.user.name ?? row.user.id}`, used, row.scopes.map(scopeName).join(', ') || 'no scope'].join(
            ' · ',
          )}
        </span>
      </button>
    </li>
  );
}

function Webhooks() {
  const pages = usePages<Webhook>(`webhooks ${stamp.value}`, routes.webhooks);
  return (
    <section class="block" aria-labelledby="webhooks-title">
      <div class="block-head">
        <h2 id="webhooks-title">Webhooks</h2>
        <button type="button" id="open-new_webhook" class="button" onClick={() => open('new_webhook')}>
          <Icon name="plus" />
          New webhook
        </button>
      </div>
      <Paged
        pages={pages}
        what="webhooks"
        next="More webhooks"
        empty={
          <Empty title="No webhooks yet">
            <p>A webhook tells your server when something happens, such as a customer who enters a fence.</p>
          </Empty>
        }
      >
        {(rows) => (
          <ul class="segmentations">
            {rows.map((hook) => (
              <WebhookRow key={hook.id} hook={hook} />
            ))}
          </ul>
        )}
      </Paged>
    </section>
  );
}

function WebhookRow({ hook }: { hook: Webhook }) {
  const { word, good, means } = health(hook);
  return (
    <li>
      <button type="button" id={`open-${hook.id}`} class="segmentation" onClick={() => open(hook.id)}>
        <strong>{hook.description || hook.url}</strong>
        <span class={good ? 'badge strong' : 'badge'}>{word}</span>
        {hook.description && <span class="small quiet address">{hook.url}</span>}
        {means && <span class="small quiet">{means}</span>}
      </button>
    </li>
  );
}
