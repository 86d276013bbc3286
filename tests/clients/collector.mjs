// The collector of the tests: takes OTLP over HTTP and decodes it by OpenTelemetry's own code, of `@opentelemetry/otlp-transformer`.
//
//   node collector.mjs PACKAGE_DIR PORT BODIES [silent]
//
// Prints "ready" when it listens, "asked {…}" with the headers of each request, and "span {…}" for each span. Every body is added to the
// file BODIES as it came. With "silent" it reads requests and never answers.
import { appendFileSync } from 'node:fs';
import { createServer } from 'node:http';
import { createRequire } from 'node:module';

const [dir, port, bodies, manner] = process.argv.slice(2);
const { opentelemetry } = createRequire(import.meta.url)(`${dir}/node_modules/@opentelemetry/otlp-transformer/build/src/generated/root.js`);
const { ExportTraceServiceRequest: Asked, ExportTraceServiceResponse: Answer } = opentelemetry.proto.collector.trace.v1;

const hex = (octets) => Buffer.from(octets ?? []).toString('hex');
const fields = (list) => Object.fromEntries((list ?? []).map(({ key, value }) => [key, value.stringValue ?? String(value.intValue)]));

createServer((request, response) => {
  const pieces = [];
  request.on('data', (piece) => pieces.push(piece));
  request.on('end', () => {
    const body = Buffer.concat(pieces);
    appendFileSync(bodies, body);
    console.log('asked', JSON.stringify({ method: request.method, url: request.url, ...request.headers }));
    if (manner === 'silent') return;
    for (const { resource, scopeSpans } of Asked.decode(body).resourceSpans) {
      for (const span of scopeSpans.flatMap((scope) => scope.spans)) {
        console.log('span', JSON.stringify({
          resource: fields(resource.attributes), name: span.name, kind: span.kind, trace: hex(span.traceId), id: hex(span.spanId),
          parent: hex(span.parentSpanId), start: Number(span.startTimeUnixNano), end: Number(span.endTimeUnixNano),
          fields: fields(span.attributes), events: span.events.length, links: span.links.length, status: span.status?.code ?? 0,
        }));
      }
    }
    response.setHeader('content-type', 'application/x-protobuf');
    response.end(Answer.encode(Answer.create()).finish());
  });
}).listen(Number(port), '127.0.0.1', () => console.log('ready'));
