/** What the panel of segments shares with the map: the customers of a preview; and how the panel follows what goes on. */

import { signal } from '@preact/signals';
import { useEffect, useState } from 'preact/hooks';
import { Problem } from '../api/client';
import * as routes from '../api/routes';
import type { GroupsPreview, RunWithResults } from '../api/shapes';
import { type Mark, marksFor } from '../design/palette';
import type { Point } from '../state/model';
import { asProblem } from '../state/remote';
import { edition } from '../state/screen';
import { loadSegmentations, me } from '../state/session';
import { isGoing } from './words';

export type Permission =
  | 'segmentations:write'
  | 'segmentations:publish'
  | 'exports'
  | 'exports:aggregated'
  | 'offers:write'
  | 'offers:publish'
  | 'geofences:write'
  | 'automations:write'
  | 'automations:publish'
  | 'keys:manage'
  | 'webhooks:manage';
export const may = (permission: Permission): boolean => me.value?.permissions.includes(permission) ?? false;

/** A group of a preview as the map's legend names it. */
export interface SampleGroup {
  readonly name: string;
  readonly mark: Mark;
}
export interface Sample {
  readonly customers: readonly (Point & { readonly mark: Mark })[];
  readonly groups: readonly SampleGroup[];
}
/** The customers of the open preview; null while there is none. */
export const sample = signal<Sample | null>(null);

export const previewKey = (group: number): string => `group_${group}`;

/** What the map draws of a preview. */
export function sampleOf({ groups, customers }: GroupsPreview): Sample {
  const marks = marksFor(groups.map(({ group }) => previewKey(group)));
  return {
    groups: groups.flatMap(({ name, group }) => {
      const mark = marks.get(previewKey(group));
      return mark ? [{ name, mark }] : [];
    }),
    customers: customers.flatMap(({ lon, lat, group }) => {
      const mark = marks.get(previewKey(group));
      return mark && lon !== null && lat !== null ? [{ lon, lat, mark }] : [];
    }),
  };
}

export interface Previewed<T> {
  /** The last answer, while the next is on its way too. */
  readonly data: T | null;
  readonly problem: Problem | null;
  readonly asking: boolean;
}

const PAUSE_MS = 350;

/** Asks anew a moment after `question` has changed; null asks nothing. */
export function usePreview<T>(question: string | null, ask: (signal: AbortSignal) => Promise<T | null>): Previewed<T> {
  const [now, setNow] = useState<Previewed<T>>({ data: null, problem: null, asking: question !== null });
  useEffect(() => {
    if (question === null) {
      setNow({ data: null, problem: null, asking: false });
      return;
    }
    const aborter = new AbortController();
    setNow((last) => ({ ...last, asking: true }));
    const timer = setTimeout(() => {
      ask(aborter.signal).then(
        (data) => !aborter.signal.aborted && setNow({ data, problem: null, asking: false }),
        (error: unknown) => !aborter.signal.aborted && setNow({ data: null, problem: asProblem(error), asking: false }),
      );
    }, PAUSE_MS);
    return () => {
      clearTimeout(timer);
      aborter.abort();
    };
  }, [question]);
  return now;
}

const ASK_AGAIN_MS = 800;
const pause = (ms: number) => new Promise((done) => setTimeout(done, ms));

export interface FollowedRun {
  readonly run: RunWithResults | null;
  readonly problem: Problem | null;
}

/** A run, asked for again until it has ended; `ended` is called when it ends while it is followed. */
export function useRun(segmentation: string, number: number | null, stamp: number, ended: () => void): FollowedRun {
  const [now, setNow] = useState<FollowedRun & { key: string }>({ run: null, problem: null, key: '' });
  const key = `${segmentation} ${number}`;
  useEffect(() => {
    if (number === null) return;
    const aborter = new AbortController();
    const follow = async () => {
      let going = false;
      for (;;) {
        const run = await routes.run(segmentation, number, aborter.signal);
        if (aborter.signal.aborted) return;
        setNow({ run, problem: null, key });
        if (!isGoing(run)) break;
        going = true;
        await pause(ASK_AGAIN_MS);
        if (aborter.signal.aborted) return;
      }
      if (going) ended();
    };
    follow().catch((error: unknown) => {
      if (!aborter.signal.aborted) setNow({ run: null, problem: asProblem(error), key });
    });
    return () => aborter.abort();
  }, [key, stamp]);
  return now.key === key ? now : { run: null, problem: null };
}

/** Waits for a job to end, and says what came of it; `tell` is given how far it is. Throws the `Problem` of one that
 * failed, or an AbortError. */
export async function finished(
  job_id: string,
  { tell, signal = new AbortController().signal }: { tell?: (result: unknown) => void; signal?: AbortSignal } = {},
): Promise<unknown> {
  for (;;) {
    const job = await routes.job(job_id, signal);
    if (job.status === 'done') return job.result;
    if (job.status === 'failed') {
      const { title, detail, errors } = (job.error ?? {}) as Partial<Pick<Problem, 'title' | 'errors'>> & {
        detail?: string;
      };
      throw new Problem(0, title ?? 'It did not work', detail ?? '', { errors: errors ?? [] });
    }
    tell?.(job.result);
    await pause(ASK_AGAIN_MS / 2);
  }
}

/** What everybody sees has changed: names, counts and tiles are asked for again. */
export async function refreshShown(): Promise<void> {
  await loadSegmentations();
  edition.value += 1;
}
