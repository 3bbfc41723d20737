"""Tables of Iceberg as PyIceberg has them. DIR is a directory with its catalog, or the properties of another one as JSON, with
its name and the namespace.

`iceberg_table.py compare DIR TABLE FILE [FILTER]`: the table has the rows of an Arrow file (with a filter: those of the
filter), and the types of evt; prints one JSON object about its snapshots.
`iceberg_table.py append DIR TABLE FILE`: appends the rows of an Arrow file.
`iceberg_table.py delete DIR TABLE FILTER`: deletes rows by rewriting files.
`iceberg_table.py columns DIR TABLE`: prints the number of rows, and of each column that is none of evt's its type, the number of its
values and the least and greatest one, as JSON.
`iceberg_table.py evolve DIR TABLE COUNT`: adds that many columns, one with each commit, whoever commits meanwhile.
`iceberg_table.py disturb DIR TABLE COUNT`: commits that many changes of a property, whoever commits meanwhile.
"""

import json
import sys
import time
import warnings

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.ipc
from pyiceberg.catalog import load_catalog
from pyiceberg.exceptions import CommitFailedException
from pyiceberg.types import LongType
from sqlalchemy.exc import OperationalError

TYPES = {
    "raw_events": {"event_id": "uuid", "event_time": "timestamptz", "properties": "string", "offset": "long"},
    "aggregated_metrics": {"metric_id": "uuid", "window_start": "timestamptz", "value": "double", "revision": "int"},
    "dead_letters": {"original_payload": "binary", "headers": "map<string, binary>", "attempts": "int"},
    "late_events": {"late_for": "list<string>", "partial": "boolean", "lateness_ms": "long"},
    "alerts": {"alert_id": "uuid", "since": "timestamptz"},
}


def main(command, directory, name, *rest):
    properties = json.loads(directory) if directory.startswith("{") else {
        "name": "evt", "namespace": "evt", "type": "sql", "uri": f"sqlite:///{directory}/catalog.db", "warehouse": f"file://{directory}"}
    name_of_catalog, namespace = properties.pop("name"), properties.pop("namespace")
    catalog = load_catalog(name_of_catalog, **properties)
    end = time.monotonic() + 60
    while command in ("disturb", "evolve") and not is_there(catalog, namespace, name) and time.monotonic() < end:
        time.sleep(0.01)
    table = catalog.load_table((namespace, name))
    commands = {"compare": compare, "append": append, "delete": delete, "columns": columns, "disturb": disturb, "evolve": evolve}
    commands[command](table, name, *rest)


def is_there(catalog, namespace, name):
    try:
        return catalog.table_exists((namespace, name))
    except OperationalError:
        return False


def compare(table, name, path, row_filter=None):
    types = {field.name: str(field.field_type) for field in table.schema().fields}
    for column, wanted in TYPES[name].items():
        assert types[column] == wanted, (column, types[column])
    assert str(table.spec().fields[0].transform) == "day"
    order = [field.source_id for field in table.sort_order().fields]
    assert len(order) == (3 if name == "aggregated_metrics" else 0), order
    scan = table.scan(row_filter=row_filter) if row_filter else table.scan()
    found, wanted = plain(scan.to_arrow()), plain(pa.ipc.open_file(path).read_all())
    assert found == wanted, next((pair for pair in zip(found, wanted) if pair[0] != pair[1]), (len(found), len(wanted)))
    snapshots = [(snapshot.summary.operation.value, snapshot.summary.additional_properties) for snapshot in table.snapshots()]
    if not row_filter:
        assert int(snapshots[-1][1]["total-records"]) == len(found), snapshots[-1]
    files = [task.file for task in scan.plan_files()]
    counts = sum(file.record_count for file in files)
    print(json.dumps({"rows": len(found), "operations": [operation for operation, _ in snapshots], "counted": counts,
                      "planned": len(files), "ids": [snapshot.snapshot_id for snapshot in table.snapshots()], "properties": table.properties}))


def plain(table):
    """The rows of a table in any order, each as a text."""
    names = sorted(table.column_names)
    return sorted(repr([(name, value(row[name])) for name in names]) for row in table.to_pylist())


def value(cell):
    if hasattr(cell, "isoformat"):
        return cell.isoformat()
    if isinstance(cell, bytes) and len(cell) == 16 or hasattr(cell, "hex") and not isinstance(cell, (bytes, float)):
        return cell.hex() if isinstance(cell, bytes) else cell.hex
    return cell


def append(table, name, path):
    rows = pa.ipc.open_file(path).read_all()
    schema = table.schema().as_arrow()
    columns = [plain_column(rows[field.name].combine_chunks(), field.type) for field in schema]
    table.append(pa.Table.from_arrays(columns, schema=schema))


def plain_column(column, wanted):
    if isinstance(column, pa.ExtensionArray):
        column = column.storage
    if isinstance(column, pa.DictionaryArray):
        column = column.dictionary_decode()
    if isinstance(wanted, pa.ExtensionType):
        return pa.ExtensionArray.from_storage(wanted, column.cast(wanted.storage_type))
    return column.cast(wanted)


def delete(table, name, row_filter):
    table.delete(row_filter)


def columns(table, name):
    rows = table.scan().to_arrow()
    found = {}
    for field in table.schema().fields:
        if field.field_id > 14:
            column = rows[field.name].drop_null()
            extremes = pc.min_max(column)
            found[field.name] = [str(field.field_type), len(column), extremes["min"].as_py(), extremes["max"].as_py()]
    print(json.dumps({"rows": rows.num_rows, "columns": found}))


def evolve(table, name, count):
    done = 0
    while done < int(count):
        table = table.refresh()
        try:
            with table.update_schema() as update:
                update.add_column(f"other_{done}", LongType())
        except (CommitFailedException, OperationalError):
            continue
        done += 1


def disturb(table, name, count):
    done = 0
    while done < int(count):
        table = table.refresh()
        try:
            with table.transaction() as transaction:
                transaction.set_properties(disturbed=str(done + 1))
        except (CommitFailedException, OperationalError):
            # Another commit was faster, or the database is locked.
            continue
        done += 1


warnings.simplefilter("ignore")
main(*sys.argv[1:])
