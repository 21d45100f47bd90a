/** Requests to copy, and to run from here with a key. */

import { useState } from 'preact/hooks';
import { CopyButton } from '../components/copy';
import { Empty, Failed } from '../components/states';
import { useSubmit } from '../state/remote';
import { company } from '../state/session';
import { state } from '../state/store';
import { type Ran, run, trying } from './state';
import { curl, type Example, examples, took, within } from './words';

/** The middle of the map, else of all customers. */
function middle(): { lon: number; lat: number } {
  const { view } = state.value;
  if (view) return view;
  const bounds = company.value.bounds;
  return bounds ? { lon: (bounds[0] + bounds[2]) / 2, lat: (bounds[1] + bounds[3]) / 2 } : { lon: 0, lat: 0 };
}

/** Without the secret itself: what is copied may be pasted anywhere. */
const EXPORT = "export KEY='gk_…'";

export function RequestsPage() {
  const { token, name, scopes } = trying.value;
  const all = examples(middle(), state.value.who ?? 'cus_1');
  const offered = all.filter((example) => within(example, scopes));
  return (
    <>
      <section class="block" aria-labelledby="developers-title">
        <h2 id="developers-title" class="large" tabIndex={-1}>
          Requests that run
        </h2>
        <div class="field">
          <label for="token">Secret of a key</label>
          <input
            id="token"
            class="input"
            type="password"
            autocomplete="off"
            spellcheck={false}
            placeholder="gk_…"
            value={token}
            aria-describedby="token-hint"
            onInput={(event) => {
              trying.value = { token: event.currentTarget.value.trim(), name: null, scopes: null };
            }}
          />
          <p id="token-hint" class="small quiet">
            {name ? `Of “${name}”. ` : ''}It stays on this page, in no address and no storage. Requests run as the
            program with this key would run them.
          </p>
        </div>
      </section>
      <section class="block try" aria-labelledby="try-export">
        <h3 id="try-export">First, in a terminal</h3>
        <pre class="code">{EXPORT}</pre>
        <p class="small quiet">
          The lines below find the secret of your key in this variable. Requests run from here need no terminal.
        </p>
        <div class="row-actions">
          <CopyButton text={EXPORT} what="the line that sets the key" />
        </div>
      </section>
      {offered.length < all.length && (
        <p class="small quiet">Requests that the scopes of “{name}” do not let through are left out.</p>
      )}
      {offered.length === 0 && <Empty title="This key opens nothing" />}
      {offered.map((example) => (
        <One key={example.id} example={example} token={token} />
      ))}
    </>
  );
}

function One({ example, token }: { example: Example; token: string }) {
  const { busy, problem, submit } = useSubmit();
  const [ran, setRan] = useState<Ran | null>(null);
  const line = curl(example, window.location.origin);
  const start = () => submit(async () => setRan(await run(example, token)));
  const title = `try-${example.id}`;
  return (
    <section class="block try" aria-labelledby={title}>
      <h3 id={title}>{example.name}</h3>
      {example.changes && <p class="small">{example.changes}</p>}
      <pre class="code">{line}</pre>
      <div class="row-actions">
        <button type="button" class="button primary" disabled={busy || token === ''} onClick={() => void start()}>
          {busy ? 'Running…' : 'Run'}
          <span class="hidden-visually"> {example.name}</span>
        </button>
        <CopyButton text={line} what={example.name} />
      </div>
      {token === '' && <p class="small quiet">To run it, paste the secret of a key above.</p>}
      {problem && <Failed problem={problem} />}
      {ran && (
        <div class="ran" role="status">
          <p class="small">
            <strong class={ran.status < 400 ? '' : 'wrong'}>{ran.status}</strong> in {took(ran.took_ms)}
            {ran.requestId && <span class="quiet"> · {ran.requestId}</span>}
          </p>
          {/* biome-ignore lint/a11y/noNoninteractiveTabindex: what scrolls is reached by the keyboard */}
          <section class="answer" tabIndex={0} aria-label={`Answer: ${example.name}`}>
            <pre class="code">{ran.text}</pre>
          </section>
        </div>
      )}
    </section>
  );
}
