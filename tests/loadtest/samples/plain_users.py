"""Users as Locust's documentation writes them: what its clients cost without anything of ours."""
from locust import FastHttpUser, HttpUser, task

BODY = '{"instances": [[1.0, 2.0, 3.0, 4.0]]}'


class PlainHttpUser(HttpUser):
    @task
    def predict(self) -> None:
        self.client.post("/v1/models/null:predict", data=BODY, headers={"Content-Type": "application/json"})


class PlainFastHttpUser(FastHttpUser):
    @task
    def predict(self) -> None:
        self.client.post("/v1/models/null:predict", data=BODY, headers={"Content-Type": "application/json"})
