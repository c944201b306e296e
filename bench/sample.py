"""The company that the benchmarks read and write: about what an operator with a dozen roaming partners has."""

from uuid import UUID

from evbridge.v1.company_pb2 import Company, ExternalSourceMapping


def company() -> Company:
    return Company(
        id=str(UUID(int=1)),
        version=1,
        name="Wattwerk Energie",
        url="https://wattwerk.example/elektromobilitaet/laden",
        is_cpo=True,
        is_emp=True,
        external_source_mapping=ExternalSourceMapping(going_electric_names=["Wattwerk", "Wattwerk (Straßenlaternen)"]),
        supported_emp_ids=[str(UUID(int=number << 64 | 0x1234)) for number in range(2, 14)],
        cpo_group_id=str(UUID(int=20)),
    )
