"""The TypeScript client: generated anew, compiled strictly, and run."""

import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest

from geocrm.settings import CHECKOUT

PACKAGES = CHECKOUT / "maps" / "node_modules"
SOURCE = CHECKOUT / "clients" / "typescript"
USES = """\
import { answered, createGeocrm, Problem, readMessage } from './index.js';

const geocrm = createGeocrm({ url: 'http://geocrm.test/', key: 'gk_1', fetch: async (request) => {
  console.log(request.method, request.url, request.headers.get('Authorization'), await request.text());
  return request.method === 'GET'
    ? Response.json({ data: [{ title: 'A coffee on us' }], others: null, at: '2026-03-01T00:00:00Z' })
    : Response.json({ type: 'https://geocrm.example/problems/conflict', detail: 'All of it is taken.' },
        { status: 409, headers: { 'X-Request-Id': 'req_1' } });
} });
const query = { customer: 'cus_1', lon: -105, lat: 40 };
const found = await answered(geocrm.GET('/v1/offers/eligible', { params: { query } }));
const title: string | null | undefined = found.data[0]?.title;
console.log(title);
try {
  await answered(geocrm.POST('/v1/offers/{offer_id}/redemptions', {
    params: { path: { offer_id: 'off_1' }, header: { 'idempotency-key': 'till-7' } }, body: { customer_id: 'cus_1' },
  }));
} catch (problem) {
  if (problem instanceof Problem) console.log(problem.status, problem.kind, problem.requestId, problem.message);
}
const message = new TextEncoder().encode('{"test": 2432232314}');
const secret = 'whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw';
const signature = 'v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=';
for (const [id, given, now] of [
  ['msg_p5jXN8AQM9LWM0D4loKWxJek', `v1,A!A v1,AAAA ${signature}`, 1614265330],
  ['msg_p5jXN8AQM9LWM0D4loKWxJek', signature, 1614265631],
  ['msg_other', signature, 1614265330],
] as const) {
  const headers = new Headers({ 'webhook-id': id, 'webhook-timestamp': '1614265330', 'webhook-signature': given });
  console.log(await readMessage(secret, headers, message, now).catch((error) => error.message));
}
export function misuses(): void {
  // @ts-expect-error no such address
  geocrm.GET('/v1/offers/elligible');
  // @ts-expect-error a text is needed
  geocrm.GET('/v1/offers/eligible', { params: { query: { customer: 3, lon: 1, lat: 2 } } });
  // @ts-expect-error no such field
  geocrm.POST('/v1/offers', { body: { name: 'Coffee', titel: 'A coffee on us' } });
}
"""


def run(*command: str | Path, cwd: Path) -> subprocess.CompletedProcess[str]:
    path = f"{CHECKOUT / '.tools' / 'node' / 'bin'}:{os.environ['PATH']}"
    return subprocess.run(
        command, cwd=cwd, env=os.environ | {"PATH": path}, capture_output=True, text=True, check=False
    )


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The package with its generated part, and the tools that the web application has."""
    made = tmp_path_factory.mktemp("typescript")
    shutil.copytree(
        SOURCE, made, dirs_exist_ok=True, ignore=shutil.ignore_patterns("node_modules", "dist", "schema.ts")
    )
    (made / "node_modules").symlink_to(PACKAGES)
    generated = run(
        "node_modules/.bin/openapi-typescript", CHECKOUT / "maps" / "openapi.json", "-o", "src/schema.ts", cwd=made
    )
    assert generated.returncode == 0, generated.stderr
    return made


def test_the_web_application_has_the_same_types(package: Path) -> None:
    kept = CHECKOUT / "maps" / "src" / "api" / "schema.ts"
    assert kept.read_text() == (package / "src" / "schema.ts").read_text(), "out of date: scripts/npm run generate"


def test_it_is_typed_and_works(package: Path) -> None:
    (package / "src" / "uses.ts").write_text(USES)
    compiled = run("node", "node_modules/typescript-7/bin/tsc", cwd=package)
    assert (compiled.returncode, compiled.stdout) == (0, "")  # also where an error was expected and there was none
    used = run("node", "dist/uses.js", cwd=package)
    assert used.returncode == 0, used.stderr
    assert used.stdout.splitlines() == [
        "GET http://geocrm.test/v1/offers/eligible?customer=cus_1&lon=-105&lat=40 Bearer gk_1 ",
        "A coffee on us",
        'POST http://geocrm.test/v1/offers/off_1/redemptions Bearer gk_1 {"customer_id":"cus_1"}',
        "409 conflict req_1 All of it is taken.",
        "{ test: 2432232314 }",
        "the message is too old, or from the future",
        "the signature is not right",
    ]


def test_its_tools_are_those_of_the_web_application() -> None:
    ours = json.loads((SOURCE / "package.json").read_text())
    theirs = json.loads((CHECKOUT / "maps" / "package.json").read_text())["devDependencies"]
    for name, version in {**ours["dependencies"], **ours["devDependencies"]}.items():
        assert theirs[name] == version, name
    locks = [json.loads((at / "package-lock.json").read_text())["packages"] for at in (SOURCE, CHECKOUT / "maps")]
    for name in (*ours["dependencies"], *ours["devDependencies"]):
        first, second = (lock[f"node_modules/{name}"]["version"] for lock in locks)
        assert first == second, name
