import { afterEach, describe, expect, it, vi } from 'vitest';
import { get, Problem, post, queryText, useCsrfToken, whenSignedOut } from './client';

const answers = (status: number, body: unknown, headers: Record<string, string> = {}) => {
  const fetching = vi.fn(async () => new Response(status === 204 ? null : JSON.stringify(body), { status, headers }));
  vi.stubGlobal('fetch', fetching);
  return fetching;
};

afterEach(() => {
  vi.unstubAllGlobals();
  useCsrfToken(null);
  whenSignedOut(() => {});
});

describe('requests', () => {
  it('leave empty parts of the query out', () => {
    expect(queryText({ a: 1, b: null, c: undefined, d: '', e: [], f: ['x', 'y'], g: 0 })).toBe('?a=1&f=x,y&g=0');
    expect(queryText()).toBe('');
  });

  it('carry the CSRF token when they write, and only then', async () => {
    useCsrfToken('t0k3n');
    const fetching = answers(200, {});
    await get('/v1/me');
    await post('/v1/sessions', { email: 'a@example.com', password: 'x' });
    const headers = fetching.mock.calls.map((call) => (call as unknown as [string, RequestInit])[1].headers);
    expect(headers[0]).not.toHaveProperty('X-CSRF-Token');
    expect(headers[1]).toHaveProperty('X-CSRF-Token', 't0k3n');
  });

  it('fail with the problem that the API described', async () => {
    answers(
      422,
      { title: 'Not valid', detail: 'lon is too large', errors: [{ pointer: '/lon', detail: '≤ 180' }] },
      { 'X-Request-Id': 'req_1', 'Retry-After': '7' },
    );
    const problem = await get('/v1/customers/nearby').catch((error: unknown) => error);
    expect(problem).toBeInstanceOf(Problem);
    expect(problem).toMatchObject({
      status: 422,
      title: 'Not valid',
      message: 'lon is too large',
      errors: [{ pointer: '/lon' }],
      requestId: 'req_1',
      retryAfter_s: 7,
    });
  });

  it('fail in words when a proxy answers instead, or nobody', async () => {
    vi.stubGlobal('fetch', async () => new Response('<html>', { status: 502 }));
    await expect(get('/v1/me')).rejects.toMatchObject({ status: 502, title: 'The server answered 502' });
    vi.stubGlobal('fetch', async () => {
      throw new TypeError('failed');
    });
    await expect(get('/v1/me')).rejects.toMatchObject({ status: 0, title: 'The server cannot be reached' });
  });

  it('say when nobody is signed in any more', async () => {
    const signedOut = vi.fn();
    whenSignedOut(signedOut);
    answers(401, { title: 'Sign in first' });
    await expect(get('/v1/customers')).rejects.toBeInstanceOf(Problem);
    expect(signedOut).toHaveBeenCalledOnce();
  });
});
