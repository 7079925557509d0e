// Run by scripts/kql-check.
const fs = require('fs');
require('@kusto/language-service-next/bridge.js');
require('@kusto/language-service-next/Kusto.Language.Bridge.js');
const { GlobalState, KustoCode, Symbols } = globalThis.Kusto.Language;

// The columns that the tables of Resource Graph share.
const columns = '(id: string, name: string, type: string, tenantId: string, subscriptionId: string, tags: dynamic, properties: dynamic)';
const tables = ['securityresources', 'resourcecontainers'].map((name) => Symbols.TableSymbol.From(columns).WithName(name));
const globals = GlobalState.Default.WithDatabase(new Symbols.DatabaseSymbol.$ctor1('ResourceGraph', tables));

// list converts a collection of the parser.
const list = (collection) => Array.from({ length: collection.Count }, (_, i) => collection.getItem(i));

let failed = false;
for (const file of process.argv.slice(2)) {
  const code = KustoCode.ParseAndAnalyze(fs.readFileSync(file, 'utf8'), globals);
  const complaints = list(code.GetDiagnostics());
  for (const c of complaints) {
    console.error(`${file}: ${c.Severity} at ${c.Start}: ${c.Message}`);
    failed = true;
  }
  if (complaints.length === 0) {
    console.log(`${file}: ${list(code.ResultType.Columns).map((c) => c.Name).join(', ')}`);
  }
}
process.exitCode = failed ? 1 : 0;
