/** A typed client of geocrm: the paths, parameters, bodies and answers of its OpenAPI description, over fetch. */

import createFetchClient, { type Client, type Middleware } from 'openapi-fetch';
import type { components, paths } from './schema.js';

export type { components, operations, paths } from './schema.js';
export { NotFromGeocrm, readMessage } from './webhooks.js';

export type Fault = Partial<components['schemas']['ProblemFault']>;
export type Geocrm = Client<paths>;

/** What geocrm refuses, in its own words (RFC 9457). */
export class Problem extends Error {
  readonly status: number;
  /** The last part of `type`, such as `conflict`. */
  readonly kind: string;
  /** Each fault with the pointer to its place. */
  readonly errors: readonly Fault[];
  readonly requestId: string | null;

  constructor(response: Response, told: { type?: string; title?: string; detail?: string; errors?: Fault[] }) {
    super(told.detail || told.title || `geocrm answered ${response.status}`);
    this.status = response.status;
    this.kind = told.type?.split('/').at(-1) ?? '';
    this.errors = told.errors ?? [];
    this.requestId = response.headers.get('X-Request-Id');
  }
}

export interface Options {
  /** The address of geocrm without `/v1`. */
  readonly url: string;
  /** An API key (`gk_…`); left out by who signs in. */
  readonly key?: string;
  /** Another fetch than the global one. */
  readonly fetch?: (request: Request) => Promise<Response>;
}

/** A client: `GET('/v1/offers/eligible', { params: { query: { … } } })`, and alike for the other methods. */
export function createGeocrm({ url, key, fetch }: Options): Geocrm {
  const client = createFetchClient<paths>({
    baseUrl: url.replace(/\/$/, ''),
    credentials: 'include',
    ...(key === undefined ? {} : { headers: { Authorization: `Bearer ${key}` } }),
    ...(fetch === undefined ? {} : { fetch }),
  });
  client.use(signedIn());
  return client;
}

/** The token that a signed-in session's writes carry, from the answer of `POST /v1/sessions` or `GET /v1/me`. */
function signedIn(): Middleware {
  let token: string | null = null;
  return {
    onRequest({ request }) {
      if (token !== null && request.method !== 'GET') request.headers.set('X-CSRF-Token', token);
      return request;
    },
    async onResponse({ response, schemaPath }) {
      if (response.ok && (schemaPath === '/v1/sessions' || schemaPath === '/v1/me') && response.status !== 204) {
        const found: { csrf_token?: string | null } = await response.clone().json();
        token = found.csrf_token ?? token;
      }
      return undefined;
    },
  };
}

/** What was answered; a `Problem` is thrown where geocrm refuses: `await answered(geocrm.GET('/v1/me'))`. */
export async function answered<T>(asked: Promise<{ data?: T; error?: unknown; response: Response }>): Promise<T> {
  const { data, error, response } = await asked;
  if (!response.ok) throw new Problem(response, typeof error === 'object' && error !== null ? error : {});
  return data as T;
}
