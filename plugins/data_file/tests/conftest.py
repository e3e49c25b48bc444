"""What the tests of this plugin share."""

from __future__ import annotations

import pytest

from twister2.spec.batch import records
from twister2.spec.data import ReadRequest, WriteRequest, assign_splits
from twister2.spec.tasks import END
from twister2_data_file.backend import FileBackend
from twister2_data_file.config import FileConfig


class Files:
    """A backend, with short ways to read and write everything."""

    def __init__(self, **config):
        self.backend = FileBackend(FileConfig(**config))

    def plan(self, *uris, format="text", n_tasks=2, columns=None, predicate=(), **options):
        request = ReadRequest(tuple(map(str, uris)), format, columns, predicate, options)
        return request, self.backend.plan(request, n_tasks)

    def readers(self, *uris, n_tasks=2, **kwargs):
        request, plan = self.plan(*uris, n_tasks=n_tasks, **kwargs)
        return [self.backend.open(request, splits) for splits in assign_splits(plan.splits, n_tasks)]

    def batches(self, *uris, **kwargs):
        found = []
        for reader in self.readers(*uris, **kwargs):
            try:
                while (batch := reader.poll()) is not END:
                    found += [] if batch is None else [batch]
            finally:
                reader.close()
        return found

    def read(self, *uris, **kwargs):
        return [record for batch in self.batches(*uris, **kwargs) for record in records(batch)]

    def write(self, uri, format, *parts, attempt=1, key="job/1/sink", commit=True, **options):
        """Write parts, each a list of batches; returns the committables."""
        requests = [
            WriteRequest(str(uri), format, task, len(parts), attempt, key, options) for task in range(len(parts))
        ]
        committables = []
        for request, batches in zip(requests, parts, strict=True):
            writer = self.backend.create_writer(request)
            try:
                for batch in batches:
                    writer.write(batch)
                committables += writer.prepare(1)
            finally:
                writer.close()
        if commit:
            self.backend.commit(requests[0], committables)
        return committables


@pytest.fixture
def files():
    return Files()


@pytest.fixture
def files_with():
    return Files
