// A reporter for node's test runner: a line of JSON for each test, with the file and the suites in its id,
// between one that says that it began, and one that says that it came to its end.
//
// A suite is no test, unless it fails by itself (a hook). A file is none either: node calls a file that ran to
// its end a passed test, even an empty one. A file that fails is one that could not be run.

export default async function* report(source) {
  yield `${JSON.stringify({ start: process.pid })}\n`;
  const names = new Map(); // file -> names of the tests and suites that are open, outermost first
  for await (const { type, data } of source) {
    if (type === 'test:start') {
      const open = names.get(data.file) ?? [];
      names.set(data.file, [...open.slice(0, data.nesting), data.name]);
    } else if (type === 'test:pass' || type === 'test:fail') {
      const line = told(type, data, names.get(data.file) ?? []);
      if (line) yield `${JSON.stringify({ ...line, message: clipped(line.message) })}\n`;
    }
  }
  yield `${JSON.stringify({ end: 0 })}\n`;
}

// A pipe takes a line of less than 4096 bytes in one piece, also from several processes.
function clipped(message = '') {
  return message.length <= 600 ? message : `${message.slice(0, 300)}\n…\n${message.slice(-300)}`;
}

function told(type, data, open) {
  const { name, nesting, file, skip, todo, details } = data;
  const error = details?.error;
  const isSuite = details?.type === 'suite';
  const isFile = nesting === 0 && Boolean(file) && (name === file || file.endsWith(`/${name}`));
  if (isSuite && (type === 'test:pass' || error?.failureType === 'subtestsFailed')) return null;
  if (isFile && type === 'test:pass') return null;
  const id = isFile ? file : [file, ...open.slice(0, nesting), name].filter(Boolean).join(' > ');
  const isSkipped = skip !== undefined && skip !== false || todo !== undefined && todo !== false;
  if (isSkipped) return { id, state: 'skipped' };
  if (type === 'test:pass') return { id, state: 'passed' };
  const message = String(error?.cause?.stack ?? error?.cause ?? error?.message ?? '');
  return { id, state: isSuite || isFile ? 'error' : 'failed', message };
}
