/** Requests to the API: one function, errors as `Problem`, the CSRF token of the session on every write. */

import type { components, paths } from './schema';

export type FieldError = Partial<components['schemas']['ProblemFault']> & {
  /** Of a file. */
  readonly line?: number;
};

/** What went wrong, in the words of the API (RFC 9457), with the request id that support asks for. */
export class Problem extends Error {
  readonly status: number;
  readonly title: string;
  readonly errors: readonly FieldError[];
  readonly requestId: string | null;
  /** Seconds to wait before asking again; null where the API did not say. */
  readonly retryAfter_s: number | null;
  /** The columns of a file in which one is missing. */
  readonly columns: readonly string[];

  constructor(
    status: number,
    title: string,
    detail: string,
    more: {
      errors?: readonly FieldError[];
      requestId?: string | null;
      retryAfter_s?: number | null;
      columns?: readonly string[];
    } = {},
  ) {
    super(detail || title);
    this.status = status;
    this.title = title;
    this.errors = more.errors ?? [];
    this.requestId = more.requestId ?? null;
    this.retryAfter_s = more.retryAfter_s ?? null;
    this.columns = more.columns ?? [];
  }
}

type Value = string | number | boolean | null | undefined | readonly string[];
export type Query = Readonly<Record<string, Value>>;

export interface Options {
  readonly query?: Query;
  readonly body?: unknown;
  /** A form with files, in the place of a body. */
  readonly form?: FormData;
  /** The version that an edit is of, for If-Match. */
  readonly version?: number;
  readonly signal?: AbortSignal;
}

let csrfToken: string | null = null;
let onSignedOut: () => void = () => {};
let onUnreachable: () => void = () => {};

/** The token that writes have to carry; the session's answer brings it. */
export function useCsrfToken(token: string | null): void {
  csrfToken = token;
}

/** What to do when the API says that nobody is signed in any more. */
export function whenSignedOut(action: () => void): void {
  onSignedOut = action;
}

/** What to do when a request reached nobody. */
export function whenUnreachable(action: () => void): void {
  onUnreachable = action;
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
  let body: { title?: string; detail?: string; errors?: FieldError[]; instance?: string; columns?: string[] } = {};
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
    columns: body.columns ?? [],
  });
}

/** One request; the JSON of the answer. Throws `Problem`, or an AbortError when `signal` was aborted. */
async function request<T>(method: string, path: string, options: Options = {}): Promise<T> {
  const headers: Record<string, string> = { Accept: 'application/json' };
  if (options.body !== undefined) headers['Content-Type'] = 'application/json';
  if (options.version !== undefined) headers['If-Match'] = `"${options.version}"`;
  if (method !== 'GET' && csrfToken) headers['X-CSRF-Token'] = csrfToken;
  const body = options.form ?? (options.body === undefined ? undefined : JSON.stringify(options.body));
  let response: Response;
  try {
    response = await fetch(path + queryText(options.query), {
      method,
      headers,
      credentials: 'same-origin',
      ...(body === undefined ? {} : { body }),
      ...(options.signal ? { signal: options.signal } : {}),
    });
  } catch (error) {
    if (error instanceof DOMException && error.name === 'AbortError') throw error;
    onUnreachable();
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

type Get<P extends keyof paths> = paths[P] extends { get: infer Operation } ? Operation : never;
type Patch<P extends keyof paths> = paths[P] extends { patch: infer Operation } ? Operation : never;
type Put<P extends keyof paths> = paths[P] extends { put: infer Operation } ? Operation : never;
type Delete<P extends keyof paths> = paths[P] extends { delete: infer Operation } ? Operation : never;
type Post<P extends keyof paths> = paths[P] extends { post: infer Operation } ? Operation : never;
type Json<Operation> = Operation extends {
  responses:
    | { 200: { content: { 'application/json': infer T } } }
    | { 201: { content: { 'application/json': infer T } } }
    | { 202: { content: { 'application/json': infer T } } };
}
  ? T
  : never;
type QueryOf<Operation> = Operation extends { parameters: { query?: infer Q } }
  ? { readonly [Name in keyof NonNullable<Q>]?: NonNullable<Q>[Name] | null | undefined }
  : never;
type BodyOf<Operation> = Operation extends { requestBody: { content: { 'application/json': infer T } } } ? T : never;
type PathOf<Operation> = Operation extends { parameters: { path: infer T } } ? T : Record<string, never>;

/** What a GET of the described API answers. */
export type Answer<P extends keyof paths> = Json<Get<P>>;

/** Puts the ids into a path of the description: `/v1/customers/{customer_id}`. */
export function filled(path: string, values: Readonly<Record<string, string | number>> = {}): string {
  return path.replace(/\{(\w+)\}/g, (_, name: string) => encodeURIComponent(String(values[name] ?? '')));
}

/** GET of a path that the description of the API knows, with the parameters that it knows. */
export function get<P extends keyof paths & string>(
  path: P,
  options: { readonly path?: PathOf<Get<P>>; readonly query?: QueryOf<Get<P>>; readonly signal?: AbortSignal } = {},
): Promise<Answer<P>> {
  const { path: values, ...rest } = options;
  return request('GET', filled(path, values as Record<string, string>), rest as Options);
}

/** POST of a path that the description of the API knows. */
export function post<P extends keyof paths & string>(
  path: P,
  body: BodyOf<Post<P>>,
  options: { readonly path?: PathOf<Post<P>>; readonly signal?: AbortSignal } = {},
): Promise<Json<Post<P>>> {
  const { path: values, ...rest } = options;
  return request('POST', filled(path, values as Record<string, string>), { ...rest, body });
}

/** POST of a form with files to a path that the description of the API knows. */
export function upload<P extends keyof paths & string>(path: P, form: FormData): Promise<Json<Post<P>>> {
  return request('POST', path, { form });
}

/** POST of a path that takes no body: it starts something, where a version is given of that which was read. */
export function start<P extends keyof paths & string>(
  path: P,
  values: PathOf<Post<P>>,
  version?: number,
): Promise<Json<Post<P>>> {
  return request('POST', filled(path, values as Record<string, string>), version === undefined ? {} : { version });
}

/** PUT of a path that the description of the API knows; a version, where one is given, is that which was read. */
export function put<P extends keyof paths & string>(
  path: P,
  values: PathOf<Put<P>>,
  body: BodyOf<Put<P>>,
  version?: number,
): Promise<Json<Put<P>>> {
  const options = { body, ...(version === undefined ? {} : { version }) };
  return request('PUT', filled(path, values as Record<string, string>), options);
}

/** PATCH of a path that the description of the API knows, of the version that was read. */
export function patch<P extends keyof paths & string>(
  path: P,
  values: PathOf<Patch<P>>,
  version: number,
  body: BodyOf<Patch<P>>,
): Promise<Json<Patch<P>>> {
  return request('PATCH', filled(path, values as Record<string, string>), { version, body });
}

/** DELETE of a path that the description of the API knows, of the version that was read where it has one. */
export function remove<P extends keyof paths & string>(
  path: P,
  values?: PathOf<Delete<P>>,
  version?: number,
): Promise<void> {
  const options = version === undefined ? {} : { version };
  return request('DELETE', filled(path, values as Record<string, string>), options);
}
