/** An API key: a new one, or one with what it asked. */

import { useState } from 'preact/hooks';
import * as routes from '../api/routes';
import type { ApiKey, KeyRequest } from '../api/shapes';
import { Confirm } from '../components/confirm';
import { Paged } from '../components/paged';
import { Empty, Failed, Loading } from '../components/states';
import { date } from '../format';
import { Faults, TextField } from '../offers/faults';
import { type Fault, faultsMet } from '../offers/form';
import { usePages, useRemote, useSubmit } from '../state/remote';
import { company, me } from '../state/session';
import { Secret } from './secret';
import { holdSecret, open, secrets, stamp, trying, written } from './state';
import { moment, SCOPES, standing, took } from './words';

const DAYS: readonly { days: number | null; name: string }[] = [
  { days: 30, name: '30 days' },
  { days: 365, name: 'A year' },
  { days: null, name: 'Never' },
];

export function NewKeyPage() {
  const [name, setName] = useState('');
  const [user, setUser] = useState(me.value?.id ?? '');
  const [scopes, setScopes] = useState<readonly string[]>(['customers:read']);
  const [days, setDays] = useState<number | null>(365);
  const { busy, problem, submit } = useSubmit();
  const [faults, setFaults] = useState<readonly Fault[]>([]);
  const people = company.value.owners;
  const make = (event: Event) => {
    event.preventDefault();
    const found: Fault[] = [];
    if (name.trim() === '')
      found.push({ pointer: '/name', detail: 'a name is needed, so that you know whose key it is' });
    if (scopes.length === 0)
      found.push({ pointer: '/scopes', detail: 'choose at least one: without any it opens nothing' });
    setFaults(found);
    if (found[0]) {
      document.getElementById(found[0].pointer === '/name' ? 'key-name' : `scope-${SCOPES[0]?.scope}`)?.focus();
      return;
    }
    void submit(
      async () => {
        const expires_at = days === null ? null : new Date(Date.now() + days * 86_400_000).toISOString();
        const made = await routes.createKey({
          name: name.trim(),
          user_id: user,
          scopes: scopes as routes.NewKey['scopes'],
          expires_at,
        });
        holdSecret(made.id, made.secret);
        written();
        open(made.id);
      },
      (refused) => {
        const at = faultsMet(refused);
        setFaults(at);
        return at.length > 0 && at.every(({ pointer }) => ['/name', '/scopes'].includes(pointer)) ? null : refused;
      },
    );
  };
  return (
    <form class="block" aria-labelledby="developers-title" noValidate onSubmit={make}>
      <h2 id="developers-title" class="large" tabIndex={-1}>
        New key
      </h2>
      <TextField
        id="key-name"
        label="Name of the program"
        faults={faults}
        of="/name"
        maxLength={300}
        value={name}
        change={setName}
      />
      <div class="field">
        <label for="key-user">It acts for</label>
        <select id="key-user" class="input" value={user} onChange={(event) => setUser(event.currentTarget.value)}>
          {people.map((person) => (
            <option key={person.id} value={person.id}>
              {person.name} ({person.role})
            </option>
          ))}
        </select>
        <p class="small quiet">The key sees at most what this user sees.</p>
      </div>
      <fieldset class="scopes" aria-describedby="key-scopes-faults">
        <legend class="field-name">What it may do</legend>
        {SCOPES.map(({ scope, name: called, means }) => (
          <label key={scope} class="scope">
            <input
              type="checkbox"
              id={`scope-${scope}`}
              checked={scopes.includes(scope)}
              onChange={(event) => {
                const on = event.currentTarget.checked;
                setScopes(on ? [...scopes, scope] : scopes.filter((one) => one !== scope));
              }}
            />
            <span>
              <strong>{called}</strong> <code class="small quiet">{scope}</code>
              <span class="small quiet">{means}</span>
            </span>
          </label>
        ))}
        <Faults id="key-scopes" faults={faults} of={['/scopes']} />
      </fieldset>
      <fieldset class="scopes">
        <legend class="field-name">It expires after</legend>
        <div class="choices">
          {DAYS.map((choice) => (
            <button
              key={choice.name}
              type="button"
              class="choice"
              aria-pressed={choice.days === days}
              onClick={() => setDays(choice.days)}
            >
              {choice.name}
            </button>
          ))}
        </div>
      </fieldset>
      {problem && <Failed problem={problem} />}
      <button type="submit" class="button primary" disabled={busy}>
        {busy ? 'Making it…' : 'Make the key'}
      </button>
    </form>
  );
}

export function KeyPage({ id }: { id: string }) {
  const [remote, again] = useRemote(`key ${id} ${stamp.value}`, (signal) => routes.key(id, signal));
  if (remote.status === 'failed') return <Failed problem={remote.problem} again={again} />;
  if (remote.status !== 'ready') return <Loading what="the key" lines={7} />;
  return <Shown row={remote.data} />;
}

function Shown({ row }: { row: ApiKey }) {
  const [asked, setAsked] = useState(false);
  const { busy, problem, submit } = useSubmit();
  const word = standing(row, new Date());
  const secret = secrets.value[row.id];
  const tryIt = () => {
    trying.value = { token: secret ?? '', name: row.name, scopes: row.scopes };
    open('requests');
  };
  const revoke = () =>
    submit(async () => {
      await routes.revokeKey(row.id);
      setAsked(false);
      written();
    });
  return (
    <>
      <section class="block" aria-labelledby="developers-title">
        <h2 id="developers-title" class="large" tabIndex={-1}>
          {row.name}
        </h2>
        <p>
          <span class={word === 'Active' ? 'badge strong' : 'badge'}>{word}</span>{' '}
          <code class="small quiet">{row.prefix}…</code>
        </p>
        <dl class="facts">
          <div>
            <dt>Acts for</dt>
            <dd>{row.user.name ?? row.user.id}</dd>
          </div>
          <div>
            <dt>Made</dt>
            <dd>{date(row.created_at)}</dd>
          </div>
          <div>
            <dt>{row.revoked_at ? 'Revoked' : 'Expires'}</dt>
            <dd>{row.revoked_at ? date(row.revoked_at) : row.expires_at ? date(row.expires_at) : 'never'}</dd>
          </div>
        </dl>
        <ul class="notes" aria-label="What it may do">
          {SCOPES.filter(({ scope }) => row.scopes.includes(scope)).map(({ scope, name, means }) => (
            <li key={scope}>
              {name}: <span class="quiet">{means}</span>
            </li>
          ))}
        </ul>
        {secret && <Secret secret={secret} what="key" />}
        <div class="row-actions">
          {word === 'Active' && (
            <button type="button" class="button" onClick={tryIt}>
              Try requests
            </button>
          )}
          {word === 'Active' && !asked && (
            <button type="button" class="button plain" onClick={() => setAsked(true)}>
              Revoke it
            </button>
          )}
        </div>
        {problem && <Failed problem={problem} />}
        {asked && (
          <Confirm
            question={`Revoke “${row.name}”?`}
            yes="Revoke it for good"
            busy={busy}
            act={() => void revoke()}
            cancel={() => setAsked(false)}
          >
            <p>The program that uses it is refused from its next request on. It cannot be taken back.</p>
          </Confirm>
        )}
      </section>
      <Requests id={row.id} />
    </>
  );
}

function Requests({ id }: { id: string }) {
  const pages = usePages<KeyRequest>(`requests ${id}`, (cursor, signal) => routes.requestsOf(id, cursor, signal));
  return (
    <section class="block" aria-labelledby="log-title">
      <div class="block-head">
        <h3 id="log-title">What it asked</h3>
        <button type="button" class="button plain" onClick={pages.again}>
          Look again
        </button>
      </div>
      <Paged
        pages={pages}
        what="requests"
        next="Older ones"
        empty={
          <Empty title="Nothing in the last week">
            <p>Requests are listed here as they come, without addresses and bodies: those hold positions.</p>
          </Empty>
        }
      >
        {(rows) => (
          <ol class="log">
            {rows.map((request) => (
              <li key={request.id}>
                <span class={request.status < 400 ? 'status' : 'status wrong'}>{request.status}</span>
                <code class="route">
                  {request.method} {request.route}
                </code>
                <span class="small quiet">
                  {moment(request.at)} · {took(request.took_ms)} · {request.request_id}
                </span>
              </li>
            ))}
          </ol>
        )}
      </Paged>
    </section>
  );
}
