"""Users as in Locust's documentation, to measure the cost of its clients without code of this project."""
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
