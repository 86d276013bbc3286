// A double of the one endpoint no authorization server from a registry has: tokens for a signed assertion (RFC 7523), as Google's takes
// them for service accounts. The signature is verified by Node's crypto, every claim by the rules Google publishes.
//
//   node jwtbearer.mjs PORT PUBLIC_KEY_PEM NAME SCOPE
//
// Prints "ready"; on its standard input "tokens" prints every token given so far, one a line, and then "end"; "end" of the input ends it.
import { createPublicKey, randomBytes, verify } from 'node:crypto';
import { createServer } from 'node:http';
import { readFileSync } from 'node:fs';
import { createInterface } from 'node:readline';

const [port, pem, name, scope] = process.argv.slice(2);
const key = createPublicKey(readFileSync(pem));
const audience = `http://127.0.0.1:${port}/token`;
const given = new Map();

function refusal(assertion) {
  const parts = (assertion ?? '').split('.');
  if (parts.length !== 3) return 'not a JWT';
  const [header, claims] = parts.slice(0, 2).map((part) => JSON.parse(Buffer.from(part, 'base64url')));
  if (header.alg !== 'RS256' || header.typ !== 'JWT' || header.kid !== 'key-1') return 'header';
  if (!verify('RSA-SHA256', Buffer.from(`${parts[0]}.${parts[1]}`), key, Buffer.from(parts[2], 'base64url'))) return 'Invalid JWT Signature.';
  const now = Date.now() / 1000;
  if (!(claims.iat <= now && claims.exp > now && claims.exp - claims.iat <= 3600)) {
    return 'Invalid JWT: Token must be a short-lived token (60 minutes) and in a reasonable timeframe. Check your iat and exp values in the JWT claim.';
  }
  if (claims.iss !== name || claims.aud !== audience || claims.scope !== scope || !claims.sub) return 'claims';
  return { sub: claims.sub };
}

createServer((request, answer) => {
  let body = '';
  request.on('data', (piece) => { body += piece; }).on('end', () => {
    const form = new URLSearchParams(body);
    const say = (status, value) => answer.writeHead(status, { 'Content-Type': 'application/json' }).end(JSON.stringify(value));
    if (request.url === '/introspection') {
      const found = given.get(form.get('token'));
      return say(200, found && found.until > Date.now() ? { active: true, sub: found.sub } : { active: false });
    }
    if (form.get('grant_type') !== 'urn:ietf:params:oauth:grant-type:jwt-bearer') return say(400, { error: 'unsupported_grant_type' });
    const told = refusal(form.get('assertion'));
    if (typeof told === 'string') return say(400, { error: 'invalid_grant', error_description: told });
    const token = randomBytes(32).toString('base64url');
    given.set(token, { sub: told.sub, until: Date.now() + 8000 });
    return say(200, { access_token: token, token_type: 'Bearer', expires_in: 8 });
  });
}).listen(Number(port), '127.0.0.1', () => console.log('ready'));

createInterface({ input: process.stdin }).on('line', (line) => {
  if (line === 'tokens') {
    for (const token of given.keys()) console.log(token);
    console.log('end');
  }
}).on('close', () => process.exit(0));
