/** Data that comes from the API, with its loading and failing. */

import { useCallback, useEffect, useState } from 'preact/hooks';
import { Problem } from '../api/client';

export type Remote<T> =
  | { readonly status: 'idle' }
  | { readonly status: 'loading'; readonly data?: T }
  | { readonly status: 'ready'; readonly data: T }
  | { readonly status: 'failed'; readonly problem: Problem };

export function asProblem(error: unknown): Problem {
  if (error instanceof Problem) return error;
  return new Problem(0, 'Something went wrong on this page', error instanceof Error ? error.message : String(error));
}

/**
 * Loads when `key` changes; null loads nothing. An answer that comes after the next key is dropped.
 * Returns the state and a function that loads again.
 */
export function useRemote<T>(
  key: string | null,
  load: (signal: AbortSignal) => Promise<T>,
): readonly [Remote<T>, () => void] {
  const [remote, setRemote] = useState<Remote<T>>({ status: key === null ? 'idle' : 'loading' });
  const [attempt, setAttempt] = useState(0);

  // `load` is described by `key`; `attempt` asks again.
  useEffect(() => {
    if (key === null) {
      setRemote({ status: 'idle' });
      return;
    }
    const aborter = new AbortController();
    setRemote({ status: 'loading' });
    load(aborter.signal).then(
      (data) => {
        if (!aborter.signal.aborted) setRemote({ status: 'ready', data });
      },
      (error: unknown) => {
        if (!aborter.signal.aborted) setRemote({ status: 'failed', problem: asProblem(error) });
      },
    );
    return () => aborter.abort();
  }, [key, attempt]);

  return [remote, useCallback(() => setAttempt((n) => n + 1), [])] as const;
}

export interface Submit {
  readonly busy: boolean;
  /** What the last attempt met. */
  readonly problem: Problem | null;
  /**
   * Does something that the person asked for, and never rejects. `refused` is told what it met while it is still busy,
   * and answers what is left to show: null where it has said it elsewhere, such as at the fields.
   */
  readonly submit: (
    act: () => Promise<void>,
    refused?: (problem: Problem) => Problem | null | Promise<Problem | null>,
  ) => Promise<void>;
}

/** What is sent to the API when the person asks for it, with its being under way and its failing. */
export function useSubmit(): Submit {
  const [busy, setBusy] = useState(false);
  const [problem, setProblem] = useState<Problem | null>(null);
  const submit: Submit['submit'] = async (act, refused) => {
    setBusy(true);
    setProblem(null);
    try {
      await act();
    } catch (error) {
      const met = asProblem(error);
      setProblem(refused ? await refused(met) : met);
    } finally {
      setBusy(false);
    }
  };
  return { busy, problem, submit };
}

export interface Page<T> {
  readonly data: readonly T[];
  readonly has_more: boolean;
  readonly next_cursor?: string | null;
}

export interface Pages<T> {
  readonly remote: Remote<readonly T[]>;
  readonly more: (() => void) | null;
  readonly loadingMore: boolean;
  readonly moreProblem: Problem | null;
  readonly again: () => void;
}

/** A list that comes in pages: the first with `key`, the next ones by `more`. */
export function usePages<T>(
  key: string | null,
  load: (cursor: string | null, signal: AbortSignal) => Promise<Page<T>>,
): Pages<T> {
  const [first, again] = useRemote(key, (signal) => load(null, signal));
  const [rest, setRest] = useState<{ key: string | null; rows: readonly T[]; cursor: string | null }>({
    key: null,
    rows: [],
    cursor: null,
  });
  const [loadingMore, setLoadingMore] = useState(false);
  const [moreProblem, setMoreProblem] = useState<Problem | null>(null);

  useEffect(() => {
    if (first.status !== 'ready') return;
    const cursor = first.data.has_more ? (first.data.next_cursor ?? null) : null;
    setRest({ key, rows: [], cursor });
    setMoreProblem(null);
  }, [first, key]);

  if (first.status !== 'ready') {
    return { remote: first as Remote<never>, more: null, loadingMore: false, moreProblem: null, again };
  }
  const mine = rest.key === key ? rest : { rows: [], cursor: first.data.next_cursor ?? null };
  const { cursor } = mine;
  const more = async () => {
    setLoadingMore(true);
    setMoreProblem(null);
    try {
      const page = await load(cursor, new AbortController().signal);
      setRest((now) =>
        now.key === key
          ? { key, rows: [...now.rows, ...page.data], cursor: page.has_more ? (page.next_cursor ?? null) : null }
          : now,
      );
    } catch (error) {
      setMoreProblem(asProblem(error));
    } finally {
      setLoadingMore(false);
    }
  };
  return {
    remote: { status: 'ready', data: [...first.data.data, ...mine.rows] },
    more: cursor ? () => void more() : null,
    loadingMore,
    moreProblem,
    again,
  };
}
