"""Sets of columns and of records that meet, in processes: the same as of plain lists."""

from __future__ import annotations

from twister2_testkit.jobs import Jobs


def test_a_file_of_columns_and_lists(jobs: Jobs) -> None:
    program = jobs.program(
        """
        import numpy
        import pyarrow
        import pyarrow.parquet
        from twister2_tset import TSetContext

        def main(env):
            rows = [{"k": "abc"[n % 3], "v": n} for n in range(30)]
            if env.worker_id == 0:
                pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), "rows.parquet")
            env.barrier()
            context = TSetContext(env)
            file, more = context.read_parquet("rows.parquet"), context.parallelize(rows[:6])
            both = file.union(more)
            pairs = context.parallelize(numpy.array([(n % 4, n) for n in range(8)]))
            found = [
                sorted(both.group_by("k").sum("v").collect()),
                [row["v"] for row in both.sort("v").take(4)],
                both.distinct().count(),
                file.where("v", ">", 20).union(file.filter(lambda row: row["v"] < 2)).distinct("k").count(),
                sorted(pairs.join(context.parallelize([(1, "one"), (9, "nine")]), "left").collect())[2:4],
                [len(values) for _, values in sorted(pairs.union(pairs.map(tuple)).keyed_gather().collect())],
            ]
            if env.worker_id == 0:
                print(found)
        """
    )
    done = jobs.submit(program, "-q")
    assert done.code == 0, done
    sums = [("a", 138), ("b", 150), ("c", 162)]
    assert eval(done.out) == [sums, [0, 0, 1, 1], 30, 3, [(1, (1, "one")), (1, (5, "one"))], [4, 4, 4, 4]]
