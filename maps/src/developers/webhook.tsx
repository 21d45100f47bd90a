/** A webhook: a new one, or one with what was sent to it. */

import { useEffect, useState } from 'preact/hooks';
import * as routes from '../api/routes';
import type { Delivery, Webhook } from '../api/shapes';
import { Confirm } from '../components/confirm';
import { Paged } from '../components/paged';
import { Empty, Failed, Loading } from '../components/states';
import { TextField } from '../offers/faults';
import { type Fault, faultsMet } from '../offers/form';
import { usePages, useRemote, useSubmit } from '../state/remote';
import { Secret } from './secret';
import { holdSecret, open, secrets, stamp, written } from './state';
import { addressFault, answered, EVENTS, health, moment, outcome, took } from './words';

export function NewWebhookPage() {
  const [url, setUrl] = useState('');
  const [description, setDescription] = useState('');
  const [types, setTypes] = useState<readonly string[]>([]);
  const [faults, setFaults] = useState<readonly Fault[]>([]);
  const { busy, problem, submit } = useSubmit();
  const wrong = (found: readonly Fault[]) => {
    setFaults(found);
    if (found.some(({ pointer }) => pointer === '/url')) document.getElementById('hook-url')?.focus();
  };
  const register = (event: Event) => {
    event.preventDefault();
    const fault = addressFault(url.trim());
    wrong(fault ? [{ pointer: '/url', detail: fault }] : []);
    if (fault) return;
    void submit(
      async () => {
        const made = await routes.createWebhook({
          url: url.trim(),
          types: [...types],
          description: description.trim() || null,
        });
        holdSecret(made.id, made.secret);
        written();
        open(made.id);
      },
      (refused) => {
        const found = faultsMet(refused);
        wrong(found);
        return found.length > 0 && found.every(({ pointer }) => ['/url', '/description'].includes(pointer))
          ? null
          : refused;
      },
    );
  };
  return (
    <form class="block" aria-labelledby="developers-title" noValidate onSubmit={register}>
      <h2 id="developers-title" class="large" tabIndex={-1}>
        New webhook
      </h2>
      <TextField
        id="hook-url"
        label="Address of your server"
        faults={faults}
        of="/url"
        hint="Public, and https. Messages are signed as Standard Webhooks have it."
        inputMode="url"
        maxLength={2000}
        value={url}
        change={setUrl}
      />
      <TextField
        id="hook-description"
        label="What it is for"
        faults={faults}
        of="/description"
        maxLength={300}
        value={description}
        change={setDescription}
      />
      <fieldset class="scopes">
        <legend class="field-name">What it is told</legend>
        {EVENTS.map(({ type, name }) => (
          <label key={type} class="scope">
            <input
              type="checkbox"
              checked={types.includes(type)}
              onChange={(event) => {
                const on = event.currentTarget.checked;
                setTypes(on ? [...types, type] : types.filter((one) => one !== type));
              }}
            />
            <span>
              <strong>{name}</strong> <code class="small quiet">{type}</code>
            </span>
          </label>
        ))}
        <p class="small quiet">None chosen: every event, those of later versions too.</p>
      </fieldset>
      {problem && <Failed problem={problem} />}
      <button type="submit" class="button primary" disabled={busy}>
        {busy ? 'Registering…' : 'Register the webhook'}
      </button>
    </form>
  );
}

export function WebhookPage({ id }: { id: string }) {
  const [remote, again] = useRemote(`webhook ${id} ${stamp.value}`, (signal) => routes.webhook(id, signal));
  // What is known stays on the screen while it is asked for anew.
  const [known, setKnown] = useState<Webhook | null>(null);
  useEffect(() => {
    if (remote.status === 'ready') setKnown(remote.data);
  }, [remote]);
  if (remote.status === 'failed') return <Failed problem={remote.problem} again={again} />;
  const hook = remote.status === 'ready' ? remote.data : known;
  if (!hook) return <Loading what="the webhook" lines={7} />;
  return <Shown hook={hook} />;
}

const POLL_MS = 700;
const POLLS = 20;

function Shown({ hook }: { hook: Webhook }) {
  const [asked, setAsked] = useState<'delete' | 'secret' | null>(null);
  const { busy, problem, submit } = useSubmit();
  const [said, setSaid] = useState<string | null>(null);
  const [log, setLog] = useState(0);
  const { word, good, means } = health(hook);
  const secret = secrets.value[hook.id];

  const work = (act: () => Promise<void>) => {
    setSaid(null);
    return submit(async () => {
      await act();
      setAsked(null);
    });
  };
  /** Looks at a delivery until something came of a try after those there were, for some seconds. */
  const follow = async (delivery_id: string, tried: number) => {
    setLog((count) => count + 1);
    let came: string | null = null;
    for (let look = 0; look < POLLS; look++) {
      await new Promise((resolve) => setTimeout(resolve, POLL_MS));
      const found = await routes.delivery(hook.id, delivery_id, new AbortController().signal);
      if (found.attempts <= tried) continue;
      came = outcome(found);
      break;
    }
    setSaid(came ?? 'Nothing came of it yet. Messages are sent by the worker, in order: look again in a while.');
    setLog((count) => count + 1);
    written();
  };
  const test = () =>
    work(async () => {
      const sent = await routes.testWebhook(hook.id);
      setSaid('A test is on its way…');
      await follow(sent.id, 0);
    });
  const again = ({ id, status, attempts }: Delivery) =>
    work(async () => {
      await routes.resend(hook.id, id);
      setSaid(status === 'queued' ? 'It is tried now…' : 'It is sent again…');
      await follow(id, attempts);
    });
  return (
    <>
      <section class="block" aria-labelledby="developers-title">
        <h2 id="developers-title" class="large address" tabIndex={-1}>
          {hook.description || hook.url}
        </h2>
        <p>
          <span class={good ? 'badge strong' : 'badge'}>{word}</span>{' '}
          {means && <span class="small quiet">{means}</span>}
        </p>
        <dl class="facts">
          <div>
            <dt>Address</dt>
            <dd>{hook.url}</dd>
          </div>
          <div>
            <dt>Is told</dt>
            <dd>
              {hook.types.length === 0
                ? 'every event'
                : hook.types.map((type) => EVENTS.find((one) => one.type === type)?.name ?? type).join('; ')}
            </dd>
          </div>
          {hook.next_at && hook.failures > 0 && (
            <div>
              <dt>Tried again</dt>
              <dd>{moment(hook.next_at)}</dd>
            </div>
          )}
        </dl>
        {secret && <Secret key={secret} secret={secret} what="webhook" />}
        <div class="row-actions">
          <button type="button" class="button primary" disabled={busy || !hook.enabled} onClick={() => void test()}>
            Send a test
          </button>
          <button
            type="button"
            class="button"
            disabled={busy}
            onClick={() =>
              void work(async () => {
                await routes.enableWebhook(hook.id, hook.version, !hook.enabled);
                written();
              })
            }
          >
            {hook.enabled ? 'Disable' : 'Enable'}
          </button>
          <button type="button" class="button" disabled={busy} onClick={() => setAsked('secret')}>
            New secret
          </button>
          <button type="button" class="button plain" disabled={busy} onClick={() => setAsked('delete')}>
            Delete
          </button>
        </div>
        <p role="status" class={said ? '' : 'hidden-visually'}>
          {said ?? ''}
        </p>
        {problem && <Failed problem={problem} />}
        {asked === 'secret' && (
          <Confirm
            question="Change the secret?"
            yes="Change it"
            busy={busy}
            act={() =>
              void work(async () => {
                holdSecret(hook.id, (await routes.changeSecret(hook.id)).secret);
                written();
              })
            }
            cancel={() => setAsked(null)}
          >
            <p>For a day messages carry a signature of the former secret too, so that your server can change over.</p>
          </Confirm>
        )}
        {asked === 'delete' && (
          <Confirm
            question="Delete this webhook?"
            yes="Delete it with its log"
            busy={busy}
            act={() =>
              void work(async () => {
                await routes.deleteWebhook(hook.id, hook.version);
                written();
                open(null);
              })
            }
            cancel={() => setAsked(null)}
          >
            <p>What waits for it is not sent any more. It cannot be taken back.</p>
          </Confirm>
        )}
      </section>
      <Deliveries
        id={hook.id}
        log={log}
        busy={busy || !hook.enabled}
        resend={(delivery) => void again(delivery)}
        look={() => {
          setLog((count) => count + 1);
          written();
        }}
      />
    </>
  );
}

const SHOWN: readonly { status: routes.DeliveryStatus | null; name: string }[] = [
  { status: null, name: 'All' },
  { status: 'queued', name: 'Waiting' },
  { status: 'delivered', name: 'Delivered' },
  { status: 'failed', name: 'Given up' },
];

interface LogProps {
  id: string;
  /** Raised when there is something new to see. */
  log: number;
  busy: boolean;
  resend: (delivery: Delivery) => void;
  /** Asks for the log and for how the webhook does anew. */
  look: () => void;
}

function Deliveries({ id, log, busy, resend, look }: LogProps) {
  const [status, setStatus] = useState<routes.DeliveryStatus | null>(null);
  const pages = usePages<Delivery>(`deliveries ${id} ${status} ${log}`, (cursor, signal) =>
    routes.deliveries(id, status, cursor, signal),
  );
  return (
    <section class="block" aria-labelledby="log-title">
      <div class="block-head">
        <h3 id="log-title">What was sent</h3>
        <button type="button" class="button plain" onClick={look}>
          Look again
        </button>
      </div>
      <div class="choices">
        {SHOWN.map((one) => (
          <button
            key={one.name}
            type="button"
            class="choice"
            aria-pressed={one.status === status}
            onClick={() => setStatus(one.status)}
          >
            {one.name}
          </button>
        ))}
      </div>
      <Paged
        pages={pages}
        what="messages"
        next="Older ones"
        empty={
          <Empty title="Nothing">
            <p>{status === null ? 'Send a test to see one come.' : 'No message is so.'}</p>
          </Empty>
        }
      >
        {(rows) => (
          <ol class="log">
            {rows.map((delivery) => (
              <li key={delivery.id} class="delivery">
                <strong>{EVENTS.find(({ type }) => type === delivery.type)?.name ?? 'A test'}</strong>
                <span class={delivery.status === 'failed' ? 'small wrong' : 'small'}>{outcome(delivery)}</span>
                <span class="small quiet">
                  {moment(delivery.created_at)}
                  {delivery.last_try && ` · ${took(delivery.last_try.took_ms)}`}
                  {delivery.event_id && ` · ${delivery.event_id}`}
                </span>
                <button type="button" class="button resend" disabled={busy} onClick={() => resend(delivery)}>
                  {delivery.status === 'queued' ? 'Try now' : 'Send again'}
                  <span class="hidden-visually"> {delivery.id}</span>
                </button>
                {delivery.attempts > 1 && <Tries key={delivery.attempts} hook={id} delivery={delivery} />}
              </li>
            ))}
          </ol>
        )}
      </Paged>
    </section>
  );
}

/** All tries of a message, asked for when they are opened. */
function Tries({ hook, delivery }: { hook: string; delivery: Delivery }) {
  const [wanted, setWanted] = useState(false);
  const [remote, again] = useRemote(wanted ? `tries ${delivery.id} ${delivery.attempts}` : null, (signal) =>
    routes.delivery(hook, delivery.id, signal),
  );
  return (
    <details class="fold tries" onToggle={(event) => setWanted(event.currentTarget.open)}>
      <summary>
        All tries<span class="hidden-visually"> of {delivery.id}</span>
      </summary>
      <div>
        {remote.status === 'loading' && <Loading what="the tries" lines={2} />}
        {remote.status === 'failed' && <Failed problem={remote.problem} again={again} />}
        {remote.status === 'ready' && (
          <ol aria-label={`Tries of ${delivery.id}`}>
            {remote.data.tries.map((one) => (
              <li key={one.number} class="small">
                {`${one.number}. ${moment(one.at)} · ${answered(one)} · ${took(one.took_ms)}`}
              </li>
            ))}
          </ol>
        )}
      </div>
    </details>
  );
}
