/** An automation as the fields of a form, as the API takes it, and in words. Pure. */

import type { NewAutomation } from '../api/routes';
import type { Automation } from '../api/shapes';
import { count, counted } from '../format';
import { type Draft, draftOf, emptyDraft, type Field, filterOf } from '../segments/rules';
import type { Fault } from './form';
import { type Day, dayWords, WEEK } from './words';

export type ActionKind = Automation['action']['kind'];
export type EventType = NonNullable<NewAutomation['trigger']['type']>;

export const EVENTS: readonly { readonly type: EventType; readonly name: string; readonly of: string }[] = [
  { type: 'geofence.entered', name: 'enters a fence', of: 'enters' },
  { type: 'geofence.dwelled', name: 'stays in a fence', of: 'stays in' },
  { type: 'geofence.exited', name: 'leaves a fence', of: 'leaves' },
];

export const ACTIONS: readonly { readonly kind: ActionKind; readonly name: string }[] = [
  { kind: 'offer', name: 'Give an offer' },
  { kind: 'audience', name: 'Put on a list' },
  { kind: 'task', name: 'Make a task' },
];

export interface AutomationForm {
  readonly name: string;
  readonly trigger: Automation['trigger']['kind'];
  readonly type: EventType;
  readonly tag: string;
  /** Empty: any fence of the tag. */
  readonly fence: string;
  readonly days: readonly Day[];
  readonly at: string;
  readonly zone: string;
  readonly action: ActionKind;
  readonly offer: string;
  readonly list: string;
  /** Empty: to the offer's end, or for good. */
  readonly hours: string;
  readonly title: string;
  readonly details: string;
  readonly due: string;
  readonly everybody: boolean;
  readonly condition: Draft;
  /** Empty: no consent is needed. */
  readonly consent: string;
  /** Empty: as often as it happens. */
  readonly capDays: string;
  /** Per cent. */
  readonly holdOut: string;
  readonly campaign: string;
}

/** The purpose of the consent that an action asks for unless another is said. */
export const usualConsent = (action: ActionKind): string => (action === 'task' ? '' : 'marketing');

/** The form of an automation, or of a new one on the clock of `zone`. */
export function automationForm(
  held: Automation | null,
  zone: string,
  fields: ReadonlyMap<string, Field>,
): AutomationForm {
  const { trigger, action } = held ?? {};
  const text = (value: number | null | undefined) => (value === null || value === undefined ? '' : String(value));
  return {
    name: held?.name ?? '',
    trigger: trigger?.kind ?? 'event',
    type: EVENTS.find(({ type }) => type === trigger?.type)?.type ?? 'geofence.entered',
    tag: trigger?.tag ?? '',
    fence: trigger?.external_id ?? '',
    days: WEEK.filter((day) => !trigger?.days || trigger.days.includes(day)),
    at: trigger?.at ?? '09:00',
    zone: trigger?.time_zone ?? zone,
    action: action?.kind ?? 'offer',
    offer: action?.offer_id ?? '',
    list: action?.audience_id ?? '',
    hours: held ? text(action?.hours) : '24',
    title: action?.title ?? '',
    details: action?.details ?? '',
    due: held ? text(action?.due_days ?? 0) : '2',
    everybody: !held?.condition,
    condition: held?.condition ? draftOf('', held.condition, fields) : emptyDraft(''),
    consent: held ? (held.consent_purpose ?? '') : 'marketing',
    capDays: held ? text(held.cap_days) : '7',
    holdOut: held ? String(Number((held.hold_out_share * 100).toFixed(4))) : '0',
    campaign: held?.campaign_id ?? '',
  };
}

/** What the API is sent, and what the form itself knows to be wrong. */
export function automationBody(
  form: AutomationForm,
  fields: ReadonlyMap<string, Field>,
): { readonly body: NewAutomation; readonly faults: readonly Fault[] } {
  const faults: Fault[] = [];
  const fault = (pointer: string, detail: string) => faults.push({ pointer, detail });
  const number = (pointer: string, text: string, fits: (value: number) => boolean, said: string): number | null => {
    if (text.trim() === '') return null;
    const value = Number(text);
    if (Number.isFinite(value) && fits(value)) return value;
    fault(pointer, said);
    return null;
  };
  if (form.name.trim() === '') fault('/name', 'a name is needed, so that you find it again');
  const condition = form.everybody ? null : filterOf(form.condition, fields);
  if (!form.everybody && condition === null) fault('/condition', 'a condition is needed, and every one of them whole');
  const share = number('/hold_out_share', form.holdOut, (value) => value >= 0 && value <= 100, 'a number of per cent');
  const days = Number.isInteger;
  return {
    body: {
      name: form.name.trim(),
      trigger: triggerOf(form, fault),
      action: actionOf(form, fault, number),
      condition: condition as Record<string, unknown> | null,
      consent_purpose: form.consent.trim() === '' ? null : form.consent.trim(),
      cap_days: number(
        '/cap_days',
        form.capDays,
        (value) => days(value) && value >= 1,
        'whole days from 1 on, or nothing',
      ),
      hold_out_share: Number(((share ?? 0) / 100).toFixed(6)),
      campaign_id: form.campaign === '' ? null : form.campaign,
    },
    faults,
  };
}

type Tell = (pointer: string, detail: string) => void;
type Read = (pointer: string, text: string, fits: (value: number) => boolean, said: string) => number | null;

function triggerOf(form: AutomationForm, fault: Tell): NewAutomation['trigger'] {
  if (form.trigger === 'event') {
    if (form.tag === '') fault('/trigger/tag', 'choose a fence, or all of a tag');
    return { kind: 'event', type: form.type, tag: form.tag, ...(form.fence === '' ? {} : { external_id: form.fence }) };
  }
  if (form.days.length === 0) fault('/trigger/days', 'choose a day of the week');
  if (!/^\d{2}:\d{2}$/.test(form.at)) fault('/trigger/at', 'a time of day');
  return { kind: 'schedule', days: [...form.days], at: form.at, time_zone: form.zone };
}

function actionOf(form: AutomationForm, fault: Tell, number: Read): NewAutomation['action'] {
  if (form.action === 'task') {
    if (form.title.trim() === '') fault('/action/title', 'say in a few words what is to be done');
    const whole = (value: number) => Number.isInteger(value) && value >= 0;
    return {
      kind: 'task',
      title: form.title.trim(),
      details: form.details.trim() === '' ? null : form.details.trim(),
      due_days: number('/action/due_days', form.due, whole, 'whole days from 0 on') ?? 0,
    };
  }
  const hours = number('/action/hours', form.hours, (value) => value > 0, 'hours, or nothing');
  if (form.action === 'offer') {
    if (form.offer === '') fault('/action/offer_id', 'choose the offer');
    return { kind: 'offer', offer_id: form.offer, hours };
  }
  if (form.list === '') fault('/action/audience_id', 'choose the list');
  return { kind: 'audience', audience_id: form.list, hours };
}

/** What sets it off. */
export function triggerWords({ trigger }: Pick<Automation, 'trigger'>): string {
  if (trigger.kind === 'schedule') return `${dayWords(trigger.days ?? WEEK)} at ${trigger.at} (${trigger.time_zone})`;
  const event = EVENTS.find(({ type }) => type === trigger.type)?.of ?? trigger.type;
  return trigger.external_id
    ? `A customer ${event} ${trigger.tag}/${trigger.external_id}`
    : `A customer ${event} a fence “${trigger.tag}”`;
}

/** How long what it gives holds. */
const lastingHours = (hours: number): string =>
  hours % 24 === 0 ? `for ${counted(hours / 24, 'day')}` : `for ${counted(hours, 'hour')}`;

/** What it does; `names` are those of offers and lists by their ids. */
export function actionWords({ action }: Pick<Automation, 'action'>, names: ReadonlyMap<string, string>): string {
  if (action.kind === 'task') {
    const due = action.due_days ? `due after ${counted(action.due_days, 'day')}` : 'due at once';
    return `A task for the territory’s rep, ${due}: ${action.title}`;
  }
  const id = action.offer_id ?? action.audience_id ?? '';
  const named = names.get(id) ?? id;
  const held =
    action.hours === null ? (action.kind === 'offer' ? 'to its end' : 'for good') : lastingHours(action.hours);
  return action.kind === 'offer' ? `The offer ${named}, ${held}` : `On the list ${named}, ${held}`;
}

/** What came of the newest runs, in a line; null where it was never set off. */
export function latestWords(latest: Automation['latest']): string | null {
  if (!latest?.last_at) return null;
  const parts = [
    `${count(latest.done)} done`,
    latest.failed > 0 ? `${count(latest.failed)} failed` : null,
    latest.skipped > 0 ? `${count(latest.skipped)} left aside` : null,
    latest.waiting > 0 ? `${count(latest.waiting)} waiting` : null,
  ];
  return parts.filter((part) => part !== null).join(', ');
}

const REASONS: Readonly<Record<string, string>> = {
  no_customer: 'are no more',
  not_in_condition: 'do not pass the condition',
  no_consent: 'have not consented',
  held_out: 'are held out',
  capped: 'had it within the days of the cap',
  too_late: 'came too late: it would be over',
  already_in: 'have it for as long already',
  task_open: 'have its task still open',
  no_rep: 'have no active rep',
};

/** Why customers are left aside, in words; a reason of a later version by its own name. */
export const skippedWords = (reason: string): string => REASONS[reason] ?? reason.replaceAll('_', ' ');

const FIELD_NAMES: Readonly<Record<string, string>> = {
  '/name': 'Name',
  '/trigger': 'What sets it off',
  '/action': 'What it does',
  '/condition': 'For whom',
  '/consent_purpose': 'Consent',
  '/cap_days': 'How often',
  '/hold_out_share': 'Hold-out',
  '/campaign_id': 'Campaign',
};

/** The part of the form that a pointer of the API is of. */
export const partName = (pointer: string): string => {
  const first = `/${pointer.split('/')[1] ?? ''}`;
  return FIELD_NAMES[first] ?? pointer;
};
