/** An automation as a form: a new one, or one that is not enabled. */

import { useEffect, useRef, useState } from 'preact/hooks';
import type { Problem } from '../api/client';
import * as routes from '../api/routes';
import type { Automation } from '../api/shapes';
import { Failed } from '../components/states';
import { Conditions } from '../segments/rule_builder';
import { ruleFields } from '../segments/rule_fields';
import { useRemote, useSubmit } from '../state/remote';
import {
  ACTIONS,
  type ActionKind,
  type AutomationForm,
  automationBody,
  automationForm,
  EVENTS,
  partName,
  usualConsent,
} from './automation';
import { CampaignField } from './campaign_field';
import { Faults, Field, reveal, TextField } from './faults';
import { type Fault, faultsMet, listOf } from './form';
import { DaysField, HERE, ZoneField } from './hours_form';
import { ListField } from './list_field';
import { fences, loadFences, open } from './state';

interface Props {
  /** null for a new one. */
  automation: Automation | null;
  /** With what was saved; null where nothing was. */
  done: (saved: Automation | null) => void;
}

/** Forms that were left with changes, by the automation: whoever comes back finds them. */
const kept = new Map<string, { readonly version: number | undefined; readonly form: AutomationForm }>();
const NEW = 'new';
export const isKept = (automation: string): boolean => kept.has(automation);

export function AutomationEditor({ automation, done }: Props) {
  const key = automation?.id ?? NEW;
  const stored = useRef(automationForm(automation, HERE, ruleFields.value)).current;
  const former = useRef(kept.get(key)).current;
  const [form, setForm] = useState(former?.form ?? stored);
  /** The version that the changes are of: another one since then is somebody else's. */
  const version = former ? former.version : automation?.version;
  const [faults, setFaults] = useState<readonly Fault[]>([]);
  const [said, setSaid] = useState(former ? 'Not saved yet: your changes from before.' : '');
  const { busy, problem, submit } = useSubmit();
  const changed = JSON.stringify(form) !== JSON.stringify(stored);
  useEffect(() => {
    if (!changed) {
      kept.delete(key);
      return;
    }
    kept.set(key, { version, form });
    const warn = (event: BeforeUnloadEvent) => event.preventDefault();
    window.addEventListener('beforeunload', warn);
    return () => window.removeEventListener('beforeunload', warn);
  }, [changed, form]);
  const leave = (saved: Automation | null) => {
    kept.delete(key);
    done(saved);
  };
  useEffect(() => {
    void loadFences();
    document.getElementById(automation ? 'offers-title' : 'automation-name')?.focus({ preventScroll: true });
  }, []);
  const change = (part: Partial<AutomationForm>) => {
    setForm((now) => ({ ...now, ...part }));
    setSaid('');
  };
  const mark = (found: readonly Fault[]) => {
    setFaults(found);
    reveal();
    if (found.length > 0)
      setSaid(`Not saved: see ${[...new Set(found.map(({ pointer }) => partName(pointer)))].join(', ')}.`);
  };
  const refused = (wrong: Problem): Problem | null => {
    const at = faultsMet(wrong);
    mark(at);
    return wrong.status === 422 && at.length > 0 ? null : wrong;
  };
  const save = () => {
    const { body, faults: own } = automationBody(form, ruleFields.value);
    mark(own);
    if (own.length > 0) return;
    void submit(
      async () =>
        leave(
          automation && version !== undefined
            ? await routes.editAutomation(automation.id, version, body)
            : await routes.createAutomation(body),
        ),
      refused,
    );
  };
  const parts = { form, faults, change };
  return (
    <form
      class="block editor"
      aria-labelledby="offers-title"
      onSubmit={(event) => {
        event.preventDefault();
        save();
      }}
    >
      <h2 id="offers-title" class="large" tabIndex={-1}>
        {automation?.name ?? 'New automation'}
      </h2>
      <TextField
        id="automation-name"
        label="Name, for you"
        faults={faults}
        of="/name"
        maxLength={300}
        placeholder="For instance: A warm welcome"
        value={form.name}
        change={(name) => change({ name })}
      />
      <Trigger {...parts} />
      <Does {...parts} />
      <ForWhom {...parts} />
      <Limits {...parts} />
      {problem?.status === 412 ? (
        <div class="notice" role="alert">
          <strong>Somebody else has changed this automation meanwhile</strong>
          <p>Nothing of yours is saved.</p>
          <button type="button" class="button" onClick={() => leave(null)}>
            Show it as it is now
          </button>
        </div>
      ) : (
        problem && <Failed problem={problem} />
      )}
      <div class="save-bar">
        <p role="status" class="small">
          {said}
        </p>
        <div class="row-actions">
          <button type="submit" class="button primary" disabled={busy}>
            {busy ? 'Saving…' : 'Save'}
          </button>
          <button type="button" class="button" disabled={busy} onClick={() => leave(null)}>
            Cancel
          </button>
        </div>
      </div>
    </form>
  );
}

interface PartProps {
  form: AutomationForm;
  faults: readonly Fault[];
  change: (part: Partial<AutomationForm>) => void;
}

const TRIGGERS = [
  { kind: 'event', name: 'Something happens' },
  { kind: 'schedule', name: 'At an hour of the week' },
] as const;

function Trigger({ form, faults, change }: PartProps) {
  return (
    <fieldset class="rule">
      <legend class="field-name">What sets it off</legend>
      <div class="choices">
        {TRIGGERS.map(({ kind, name }) => (
          <button
            key={kind}
            type="button"
            class="choice"
            aria-pressed={form.trigger === kind}
            onClick={() => change({ trigger: kind })}
          >
            {name}
          </button>
        ))}
      </div>
      {form.trigger === 'event' ? (
        <>
          <Field id="automation-event" label="A customer" faults={faults} of="/trigger/type">
            {(tied) => (
              <select
                {...tied}
                class="input"
                value={form.type}
                onChange={(event) => {
                  const { value } = event.currentTarget;
                  change({ type: EVENTS.find(({ type }) => type === value)?.type ?? form.type });
                }}
              >
                {EVENTS.map(({ type, name }) => (
                  <option key={type} value={type}>
                    {name}
                  </option>
                ))}
              </select>
            )}
          </Field>
          <FenceField form={form} faults={faults} change={change} />
        </>
      ) : (
        <>
          <DaysField days={form.days} change={(days) => change({ days })} />
          <Faults id="automation-days" faults={faults} of={['/trigger/days']} />
          <Field id="automation-at" label="At" faults={faults} of="/trigger/at">
            {(tied) => (
              <input
                {...tied}
                type="time"
                class="input"
                value={form.at}
                onInput={(event) => change({ at: event.currentTarget.value })}
              />
            )}
          </Field>
          <ZoneField
            id="automation-zone"
            zone={form.zone}
            faults={faults}
            of="/trigger/time_zone"
            change={(zone) => change({ zone })}
          />
        </>
      )}
    </fieldset>
  );
}

function FenceField({ form, faults, change }: PartProps) {
  const { status, rows } = fences.value;
  const chosen = form.tag === '' ? '' : form.fence === '' ? `tag ${form.tag}` : `fence ${form.tag}/${form.fence}`;
  const tags = [...new Set([...rows.map(({ tag }) => tag), ...(form.tag === '' ? [] : [form.tag])])].sort();
  const named = rows.map(({ tag, external_id, name }) => ({
    key: `${tag}/${external_id}`,
    name: name ?? `${tag}/${external_id}`,
  }));
  const known = form.fence === '' || named.some(({ key }) => key === `${form.tag}/${form.fence}`);
  return (
    <>
      <Field id="automation-fence" label="Which fence" faults={faults} of="/trigger">
        {(tied) => (
          <select
            {...tied}
            class="input"
            value={chosen}
            onChange={(event) => {
              const [kind, name = ''] = event.currentTarget.value.split(' ');
              const [tag = '', fence = ''] = kind === 'fence' ? name.split('/') : [name];
              change({ tag, fence });
            }}
          >
            <option value="">Choose a fence…</option>
            <optgroup label="All of a tag, as they come and go">
              {tags.map((tag) => (
                <option key={tag} value={`tag ${tag}`}>
                  {tag}
                </option>
              ))}
            </optgroup>
            <optgroup label="One fence">
              {!known && <option value={chosen}>{`${form.tag}/${form.fence}`}</option>}
              {named.map(({ key, name }) => (
                <option key={key} value={`fence ${key}`}>
                  {name}
                </option>
              ))}
            </optgroup>
          </select>
        )}
      </Field>
      {status === 'ready' && rows.length === 0 && (
        <p class="small">
          There are no fences yet.{' '}
          <button type="button" class="button" onClick={() => open('fences')}>
            Draw one
          </button>
        </p>
      )}
    </>
  );
}

function Does({ form, faults, change }: PartProps) {
  const choose = (action: ActionKind) =>
    // The consent that is usual follows; one that was chosen stays.
    change({ action, ...(form.consent === usualConsent(form.action) ? { consent: usualConsent(action) } : {}) });
  return (
    <fieldset class="rule">
      <legend class="field-name">What it does</legend>
      <div class="choices">
        {ACTIONS.map(({ kind, name }) => (
          <button
            key={kind}
            type="button"
            class="choice"
            aria-pressed={form.action === kind}
            onClick={() => choose(kind)}
          >
            {name}
          </button>
        ))}
      </div>
      <Faults id="automation-action" faults={faults} of={['/action/kind']} />
      {form.action === 'offer' && <OfferField form={form} faults={faults} change={change} />}
      {form.action === 'audience' && (
        <ListField
          id="automation-list"
          hint="An offer, a segment or an export can be for those who are on it."
          list={form.list}
          faults={faults}
          of="/action/audience_id"
          change={(list) => change({ list })}
        />
      )}
      {form.action === 'task' ? (
        <>
          <TextField
            id="automation-task"
            label="What is to be done"
            faults={faults}
            of="/action/title"
            hint="The owner of the customer’s territory has it, else the owner of the customer; one at a time."
            maxLength={300}
            placeholder="For instance: Call"
            value={form.title}
            change={(title) => change({ title })}
          />
          <Field id="automation-details" label="More about it" faults={faults} of="/action/details">
            {(tied) => (
              <textarea
                {...tied}
                class="input"
                rows={3}
                maxLength={20_000}
                value={form.details}
                onInput={(event) => change({ details: event.currentTarget.value })}
              />
            )}
          </Field>
          <TextField
            id="automation-due"
            label="Due after so many days"
            faults={faults}
            of="/action/due_days"
            inputMode="numeric"
            value={form.due}
            change={(due) => change({ due })}
          />
        </>
      ) : (
        <TextField
          id="automation-hours"
          label="For so many hours"
          faults={faults}
          of="/action/hours"
          hint={form.action === 'offer' ? 'Empty: to the end of the offer.' : 'Empty: for good.'}
          inputMode="decimal"
          value={form.hours}
          change={(hours) => change({ hours })}
        />
      )}
    </fieldset>
  );
}

/** The offers that automations can give: those for a list. */
function OfferField({ form, faults, change }: PartProps) {
  const [remote, again] = useRemote('offers to give', routes.offersToChoose);
  const fitting = (remote.status === 'ready' ? remote.data : []).filter(
    ({ status, live, draft }) => status !== 'ended' && listOf((live ?? draft)?.audience) !== null,
  );
  return (
    <>
      <Field
        id="automation-offer"
        label="Offer"
        faults={faults}
        of="/action/offer_id"
        hint="Offers that are for a list: under “For whom” they say so."
      >
        {(tied) => (
          <select
            {...tied}
            class="input"
            value={form.offer}
            onChange={(event) => change({ offer: event.currentTarget.value })}
          >
            <option value="">Choose an offer…</option>
            {form.offer !== '' && !fitting.some(({ id }) => id === form.offer) && (
              <option value={form.offer}>{form.offer}</option>
            )}
            {fitting.map(({ id, name, status }) => (
              <option key={id} value={id}>
                {status === 'live' ? name : `${name} (a draft)`}
              </option>
            ))}
          </select>
        )}
      </Field>
      {remote.status === 'failed' && <Failed problem={remote.problem} again={again} />}
      {remote.status === 'ready' && fitting.length === 0 && (
        <p class="small">No offer is for a list yet: make one, and choose “A list” under “For whom”.</p>
      )}
    </>
  );
}

function ForWhom({ form, faults, change }: PartProps) {
  return (
    <fieldset class="rule">
      <legend class="field-name">For whom</legend>
      <div class="choices">
        <button type="button" class="choice" aria-pressed={form.everybody} onClick={() => change({ everybody: true })}>
          Everybody
        </button>
        <button
          type="button"
          class="choice"
          aria-pressed={!form.everybody}
          onClick={() => change({ everybody: false })}
        >
          Under a condition
        </button>
      </div>
      {!form.everybody && (
        <Conditions
          id="condition"
          of="the automation"
          draft={form.condition}
          change={(condition) => change({ condition })}
        />
      )}
      <Faults id="condition" faults={faults} of={['/condition']} />
      <TextField
        id="automation-consent"
        label="Consent that the customer must have given"
        faults={faults}
        of="/consent_purpose"
        hint="The purpose of the consent, such as marketing. Empty: none is needed."
        maxLength={60}
        value={form.consent}
        change={(consent) => change({ consent })}
      />
    </fieldset>
  );
}

function Limits({ form, faults, change }: PartProps) {
  return (
    <fieldset class="rule">
      <legend class="field-name">How often, and who is held out</legend>
      <TextField
        id="automation-cap"
        label="Once for a customer within so many days"
        faults={faults}
        of="/cap_days"
        hint="Empty: as often as it happens."
        inputMode="numeric"
        value={form.capDays}
        change={(capDays) => change({ capDays })}
      />
      <TextField
        id="automation-hold-out"
        label="Held out, per cent"
        faults={faults}
        of="/hold_out_share"
        hint="An offer holds out its own: leave it at 0 for one."
        inputMode="decimal"
        value={form.holdOut}
        change={(holdOut) => change({ holdOut })}
      />
      <CampaignField
        id="automation-campaign"
        campaign={form.campaign}
        faults={faults}
        fixed={false}
        change={(campaign) => change({ campaign })}
      />
    </fieldset>
  );
}
