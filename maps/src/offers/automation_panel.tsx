/** One automation: what it says, whether it is on, what it would do now, and what it did, with the reasons. */

import { useEffect, useState } from 'preact/hooks';
import * as routes from '../api/routes';
import type { Automation, AutomationPreview, AutomationRun } from '../api/shapes';
import { Choices } from '../components/choices';
import { Confirm } from '../components/confirm';
import { Paged } from '../components/paged';
import { Empty, Failed, Loading } from '../components/states';
import { count, counted } from '../format';
import { may } from '../segments/state';
import { usePages, useRemote, useSubmit } from '../state/remote';
import { show } from '../state/store';
import { actionWords, partName, skippedWords, triggerWords } from './automation';
import { AutomationEditor, isKept } from './automation_form';
import { useNames } from './automations';
import type { Fault } from './form';
import { HERE } from './hours_form';
import { Refused } from './refused';
import { open, stamp, written } from './state';
import { moment, percent } from './words';

export function NewAutomation() {
  if (!may('automations:write'))
    return (
      <Empty title="Your role makes no automations">
        <p>An administrator, a marketer or an analyst can make one.</p>
      </Empty>
    );
  return (
    <AutomationEditor
      automation={null}
      done={(saved) => {
        written();
        open(saved?.id ?? 'automations');
      }}
    />
  );
}

export function AutomationPanel({ id }: { id: string }) {
  const [remote, again] = useRemote(`automation ${id} ${stamp.value}`, (signal) => routes.automation(id, signal));
  // Changes that were not saved are there again.
  const [editing, setEditing] = useState(isKept(id));
  if (remote.status === 'failed' && remote.problem.status === 404)
    return (
      <Empty title="Automation not found">
        <p>There is no such automation, or it was deleted.</p>
      </Empty>
    );
  if (remote.status === 'failed') return <Failed problem={remote.problem} again={again} />;
  if (remote.status !== 'ready') return <Loading what="the automation" lines={7} />;
  if (editing)
    return (
      <AutomationEditor
        automation={remote.data}
        done={() => {
          setEditing(false);
          written();
        }}
      />
    );
  return <Shown automation={remote.data} edit={() => setEditing(true)} />;
}

function Shown({ automation, edit }: { automation: Automation; edit: () => void }) {
  const { enabled, name } = automation;
  useEffect(() => document.getElementById('offers-title')?.focus({ preventScroll: true }), []);
  return (
    <>
      <section class="block" aria-labelledby="offers-title">
        <h2 id="offers-title" class="large" tabIndex={-1}>
          {name}
        </h2>
        <p>
          <span class={enabled ? 'badge strong' : 'badge'}>{enabled ? 'On' : 'Off'}</span>{' '}
          <span class="small quiet">{enabled ? 'It acts.' : 'It does nothing before it is enabled.'}</span>
        </p>
        <Says automation={automation} />
        <Actions automation={automation} edit={edit} />
      </section>
      {may('automations:write') && <Would id={automation.id} version={automation.version} />}
      <History id={automation.id} />
    </>
  );
}

function Says({ automation }: { automation: Automation }) {
  const names = useNames();
  const { condition, condition_sentence, consent_purpose, cap_days, hold_out_share, campaign_id, next_at } = automation;
  const rows: readonly (readonly [string, string | null])[] = [
    ['When', triggerWords(automation)],
    ['Next', next_at && moment(next_at, HERE)],
    ['Does', actionWords(automation, names)],
    ['Details', automation.action.details],
    ['For', condition === null ? 'everybody' : condition_sentence],
    ['Consent', consent_purpose === null ? 'none is needed' : `to ${consent_purpose}`],
    ['How often', cap_days === null ? 'as often as it happens' : `once in ${counted(cap_days, 'day')} for a customer`],
    ['Hold-out', hold_out_share > 0 ? `${percent(hold_out_share)} of customers` : null],
    ['Campaign', campaign_id],
  ];
  return (
    <dl class="facts">
      {rows.map(
        ([term, value]) =>
          value !== null && (
            <div key={term}>
              <dt>{term}</dt>
              <dd>{value}</dd>
            </div>
          ),
      )}
    </dl>
  );
}

type Asked = 'enable' | 'disable' | 'delete';

function Actions({ automation, edit }: { automation: Automation; edit: () => void }) {
  const { id, enabled, version } = automation;
  const [asked, setAsked] = useState<Asked | null>(null);
  const [missing, setMissing] = useState<readonly Fault[]>([]);
  const { busy, problem, submit } = useSubmit();
  const writes = may('automations:write');
  const publishes = may('automations:publish');
  if (!writes && !publishes)
    return <p class="small quiet">Your role looks at it; a marketer or an administrator enables and disables it.</p>;
  const work = (ask: () => Promise<unknown>, then: () => void) =>
    void submit(async () => {
      await ask();
      setAsked(null);
      then();
    });
  const wantEnabled = () =>
    void submit(async () => {
      const { data } = await routes.checkAutomation(id);
      setMissing(data);
      if (data.length === 0) setAsked('enable');
    });
  return (
    <>
      <div class="row-actions">
        {publishes && !enabled && (
          <button type="button" class="button primary" disabled={busy} onClick={wantEnabled}>
            Enable
          </button>
        )}
        {publishes && enabled && (
          <button type="button" class="button" disabled={busy} onClick={() => setAsked('disable')}>
            Disable
          </button>
        )}
        {writes && !enabled && (
          <>
            <button type="button" class="button" disabled={busy} onClick={edit}>
              Change it
            </button>
            <button type="button" class="button plain" disabled={busy} onClick={() => setAsked('delete')}>
              Delete
            </button>
          </>
        )}
      </div>
      {enabled && <p class="small quiet">To change it, disable it first.</p>}
      {!publishes && <p class="small quiet">A marketer or an administrator enables and disables it.</p>}
      {missing.length > 0 && (
        <div class="notice" role="alert">
          <strong>It cannot be enabled yet</strong>
          <ul class="notes">
            {missing.map(({ pointer, detail }) => (
              <li key={`${pointer} ${detail}`}>{`${partName(pointer)}: ${detail}`}</li>
            ))}
          </ul>
        </div>
      )}
      {asked === 'enable' && (
        <Confirm
          question="Enable this automation?"
          yes="Enable it now"
          busy={busy}
          act={() => work(() => routes.enableAutomation(id, version), written)}
          cancel={() => setAsked(null)}
        >
          <p>From now on it acts, on what happens from now on.</p>
        </Confirm>
      )}
      {asked === 'disable' && (
        <Confirm
          question="Disable this automation?"
          yes="Disable it now"
          busy={busy}
          act={() => work(() => routes.disableAutomation(id, version), written)}
          cancel={() => setAsked(null)}
        >
          <p>It acts no longer, and what waits is left aside. What it made stays.</p>
        </Confirm>
      )}
      {asked === 'delete' && (
        <Confirm
          question="Delete this automation?"
          yes="Delete it"
          busy={busy}
          act={() =>
            work(
              () => routes.deleteAutomation(id, version),
              () => {
                written();
                open('automations');
              },
            )
          }
          cancel={() => setAsked(null)}
        >
          <p>Its history goes with it. What it made stays.</p>
        </Confirm>
      )}
      <Refused what="automation" problem={problem} />
    </>
  );
}

/** What it would do now, in numbers. */
function Would({ id, version }: { id: string; version: number }) {
  const [told, setTold] = useState<AutomationPreview | null>(null);
  const { busy, problem, submit } = useSubmit();
  useEffect(() => setTold(null), [version]);
  const ask = () => void submit(async () => setTold(await routes.previewAutomation(id)));
  return (
    <section class="block" aria-labelledby="would-title">
      <h3 id="would-title">What would it do now?</h3>
      {told && (
        <div role="status" class="notice">
          <strong>{`It would act for ${counted(told.touched, 'customer')} of ${count(told.customers)}`}</strong>
          {told.events !== null && (
            <p class="small">{`Of those to whom it happened in the last 7 days, ${counted(told.events, 'time')} in all.`}</p>
          )}
          {Object.keys(told.skipped).length > 0 && (
            <ul class="notes">
              {Object.entries(told.skipped).map(([reason, customers]) => (
                <li key={reason}>{`${count(customers)} ${skippedWords(reason)}`}</li>
              ))}
            </ul>
          )}
          {told.next_at && <p class="small">{`It would come round ${moment(told.next_at, HERE)}.`}</p>}
        </div>
      )}
      {problem && <Failed problem={problem} />}
      <div class="row-actions">
        <button type="button" class="button" disabled={busy} onClick={ask}>
          {busy ? 'Counting…' : told ? 'Count again' : 'Count'}
        </button>
      </div>
    </section>
  );
}

const SHOWN: readonly { readonly status: routes.RunStatus | null; readonly name: string; readonly none: string }[] = [
  { status: null, name: 'All', none: 'Nothing happened yet' },
  { status: 'done', name: 'Done', none: 'Nothing was done yet' },
  { status: 'failed', name: 'Failed', none: 'Nothing failed' },
  { status: 'skipped', name: 'Left aside', none: 'Nobody was left aside' },
  { status: 'waiting', name: 'Waiting', none: 'Nothing waits' },
];

function History({ id }: { id: string }) {
  const [which, setWhich] = useState(0);
  const [asked, setAsked] = useState(0);
  const shown = SHOWN[which] ?? { status: null, name: '', none: '' };
  const pages = usePages<AutomationRun>(`runs ${id} ${shown.status} ${asked} ${stamp.value}`, (cursor, signal) =>
    routes.automationRuns(id, shown.status, cursor, signal),
  );
  return (
    <section class="block" aria-labelledby="history-title">
      <h3 id="history-title">History</h3>
      <p class="small quiet">Of customers that you see, newest first. It is kept for 90 days unless said otherwise.</p>
      <Choices of={SHOWN} which={which} choose={setWhich} />
      <Paged pages={pages} what="the history" empty={<Empty title={shown.none} />}>
        {(rows) => (
          <ul class="segmentations" aria-label="Runs">
            {rows.map((run) => (
              <li key={run.id}>
                <Run run={run} />
              </li>
            ))}
          </ul>
        )}
      </Paged>
      <div class="row-actions">
        <button type="button" class="button plain" onClick={() => setAsked((count) => count + 1)}>
          Ask again
        </button>
      </div>
    </section>
  );
}

const STATUS: Readonly<Record<AutomationRun['status'], string>> = {
  done: 'Done',
  skipped: 'Left aside',
  failed: 'Failed',
  waiting: 'Waiting',
};

function Run({ run }: { run: AutomationRun }) {
  const { customer, status, detail, expires_at, task_id } = run;
  const made =
    status !== 'done' ? detail : task_id ? 'a task' : expires_at ? `until ${moment(expires_at, HERE)}` : 'for good';
  const text = (
    <>
      <strong>{customer ? (customer.name ?? customer.id) : counted(run.customers, 'customer')}</strong>
      <span class={status === 'done' ? 'badge strong' : 'badge'}>{STATUS[status]}</span>
      <span class="small quiet">{[moment(run.moment, HERE), made].filter(Boolean).join(' · ')}</span>
    </>
  );
  if (!customer) return <div class="segmentation still">{text}</div>;
  return (
    <button type="button" class="segmentation" onClick={() => show({ customer: customer.id })}>
      {text}
    </button>
  );
}
