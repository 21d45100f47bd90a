/** Requests to the API: one function, errors as `Problem`, the CSRF token of the session on every write. */

import type { FieldError } from './shapes';

/** What went wrong, in the words of the API (RFC 9457), with the request id that support asks for. */
export class Problem extends Error {
  readonly status: number;
  readonly title: string;
  readonly errors: readonly FieldError[];
  readonly requestId: string | null;
  /** Seconds to wait before asking again; null where the API did not say. */
  readonly retryAfter_s: number | null;

  constructor(
    status: number,
    title: string,
    detail: string,
    more: { errors?: readonly FieldError[]; requestId?: string | null; retryAfter_s?: number | null } = {},
  ) {
    super(detail || title);
    this.status = status;
    this.title = title;
    this.errors = more.errors ?? [];
    this.requestId = more.requestId ?? null;
    this.retryAfter_s = more.retryAfter_s ?? null;
  }
}

type Value = string | number | boolean | null | undefined | readonly string[];
export type Query = Readonly<Record<string, Value>>;

export interface Options {
  readonly query?: Query;
  readonly body?: unknown;
  readonly signal?: AbortSignal;
}

let csrfToken: string | null = null;
let onSignedOut: () => void = () => {};

/** The token that writes have to carry; the session's answer brings it. */
export function useCsrfToken(token: string | null): void {
  csrfToken = token;
}

/** What to do when the API says that nobody is signed in any more. */
export function whenSignedOut(action: () => void): void {
  onSignedOut = action;
}

/** The query of a URL, with `?`; lists as comma-separated values, empty values left out. */
export function queryText(query: Query = {}): string {
  const search = new URLSearchParams();
  for (const [name, value] of Object.entries(query)) {
    if (value === null || value === undefined || value === '') continue;
    if (Array.isArray(value)) {
      if (value.length > 0) search.set(name, value.join(','));
    } else search.set(name, String(value));
  }
  const text = search.toString().replaceAll('%2C', ',');
  return text === '' ? '' : `?${text}`;
}

async function problemOf(response: Response): Promise<Problem> {
  const requestId = response.headers.get('X-Request-Id');
  const wait = Number(response.headers.get('Retry-After'));
  const retryAfter_s = Number.isFinite(wait) && wait > 0 ? wait : null;
  let body: { title?: string; detail?: string; errors?: FieldError[]; instance?: string } = {};
  try {
    body = await response.json();
  } catch {
    // Not JSON: a proxy answered. The status says enough.
  }
  const title = body.title ?? `The server answered ${response.status}`;
  return new Problem(response.status, title, body.detail ?? '', {
    errors: body.errors ?? [],
    requestId: requestId ?? body.instance ?? null,
    retryAfter_s,
  });
}

/** One request; the JSON of the answer. Throws `Problem`, or an AbortError when `signal` was aborted. */
export async function request<T>(method: string, path: string, options: Options = {}): Promise<T> {
  const headers: Record<string, string> = { Accept: 'application/json' };
  if (options.body !== undefined) headers['Content-Type'] = 'application/json';
  if (method !== 'GET' && csrfToken) headers['X-CSRF-Token'] = csrfToken;
  let response: Response;
  try {
    response = await fetch(path + queryText(options.query), {
      method,
      headers,
      credentials: 'same-origin',
      ...(options.body === undefined ? {} : { body: JSON.stringify(options.body) }),
      ...(options.signal ? { signal: options.signal } : {}),
    });
  } catch (error) {
    if (error instanceof DOMException && error.name === 'AbortError') throw error;
    throw new Problem(0, 'The server cannot be reached', 'Check the connection, then try again.');
  }
  if (!response.ok) {
    const problem = await problemOf(response);
    if (response.status === 401) onSignedOut();
    throw problem;
  }
  if (response.status === 204) return undefined as T;
  return (await response.json()) as T;
}

export const get = <T>(path: string, options?: Options): Promise<T> => request<T>('GET', path, options);
export const post = <T>(path: string, options?: Options): Promise<T> => request<T>('POST', path, options);
