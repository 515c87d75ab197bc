"""A server under load whose model is replaced by a newer version again and again."""
import json
import shutil
import threading
import urllib.request
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import psutil
from contract_servers import free_port
from waiting import until

from serving.config import Flags
from serving.grpc_service import PREDICTION_SERVICE
from serving.protos import predict_pb2
from serving.server import start
from serving.tensor_proto import to_proto


class Swaps:
    """A server under load, whose model is replaced by a newer version again and again."""

    def __init__(self, root: Path, save: Callable[[Path], object], **flags: Any) -> None:
        """`save` writes a version that answers x = [1.0] with y = [2.5]; `flags`: of the server."""
        self._root = root
        save(root / "source")
        shutil.copytree(root / "source", root / "m" / "1")
        self.flags = Flags(model_name="m", model_base_path=str(root / "m"), port=free_port(), rest_api_port=free_port(),
                           **flags)
        self.server = start(self.flags)
        self.answers: Counter[str] = Counter()
        self._done = threading.Event()
        self._threads = [threading.Thread(target=load) for load in (self._rest, self._grpc, self._grpc)]
        for thread in self._threads:
            thread.start()

    def swap(self, version: int) -> None:
        shutil.copytree(self._root / "source", self._root / "m" / f"{version}.part")
        (self._root / "m" / f"{version}.part").rename(self._root / "m" / str(version))
        self.server._store.look()
        until(lambda: list(self.server._store._serving["m"]) == [version])
        shutil.rmtree(self._root / "m" / str(version - 1))

    def counted(self, swaps: int) -> dict[str, Any]:
        """Makes so many swaps, and closes; the answers, and the memory of this process after every tenth of them."""
        process, megabytes = psutil.Process(), {}
        for number in range(1, swaps + 1):
            self.swap(number + 1)
            if number % (swaps // 10) == 0:
                megabytes[str(number)] = round(process.memory_info().rss / 1e6)
        self.close()
        return {"answers": dict(self.answers), "resident_mb_after_swaps": megabytes}

    def close(self) -> None:
        self._done.set()
        for thread in self._threads:
            thread.join()
        self.server.stop()

    def _rest(self) -> None:
        url = f"http://127.0.0.1:{self.flags.rest_api_port}/v1/models/m:predict"
        while not self._done.is_set():
            with urllib.request.urlopen(url, b'{"instances": [1.0]}', timeout=60) as answer:
                self.answers[f"REST {answer.status} {json.load(answer)['predictions']}"] += 1

    def _grpc(self) -> None:
        data = predict_pb2.PredictRequest(
            model_spec={"name": "m"}, inputs={"x": to_proto(np.ones(1, np.float32))}).SerializeToString()
        with grpc.insecure_channel(f"127.0.0.1:{self.flags.port}") as channel:
            predict = channel.unary_unary(f"/{PREDICTION_SERVICE}/Predict")
            while not self._done.is_set():
                try:
                    predict(data, timeout=60)
                    self.answers["gRPC OK"] += 1
                except grpc.RpcError as error:
                    self.answers[f"gRPC {error.code().name} {error.details()}"] += 1
